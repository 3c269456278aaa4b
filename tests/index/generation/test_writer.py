"""Publishing: all at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from index.generation import (
    FileNameInvalid,
    GenerationWriter,
    ManifestInvalid,
    MissingFile,
    NotRegularFile,
    PublishError,
    UnexpectedFile,
    list_generations,
    open_generation,
    set_current,
)

Publish = Callable[..., str]


def test_the_id_is_the_time_and_the_manifests_own_hash(root: Path, publish: Publish) -> None:
    before = datetime.now(UTC)
    generation_id = publish()
    manifest = (root / generation_id / "manifest.json").read_bytes()
    time_text, hash_text = generation_id.split("-")
    assert hash_text == hashlib.sha256(manifest).hexdigest()[:16]
    written = datetime.strptime(time_text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert before.replace(microsecond=0) <= written <= datetime.now(UTC)


def test_what_was_written_is_what_is_read(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    with GenerationWriter(root) as writer:
        writer.add_file("copied", source)
        writer.add_bytes("given", b"from memory")
        writer.path("written").write_bytes(b"in place")
        generation = open_generation(root, writer.publish({"metrics": {"ndcg@20": 0.4}, "none": None}))
    assert generation.bytes("copied") == b"from a file"
    assert generation.bytes("given") == b"from memory"
    assert generation.path("written").read_bytes() == b"in place"
    assert generation.manifest.metadata == {"metrics": {"ndcg@20": 0.4}, "none": None}
    with pytest.raises(MissingFile, match="no file other; it has copied, given, written"):
        generation.path("other")


def test_the_parent_is_the_generation_that_was_current(root: Path, publish: Publish) -> None:
    first = publish("first")
    set_current(root, first)
    second = open_generation(root, publish("second"))
    assert open_generation(root, first).manifest.parent is None
    assert second.manifest.parent == first


def test_nothing_is_visible_before_it_is_published(root: Path) -> None:
    with GenerationWriter(root) as writer:
        writer.add_bytes("a", b"a")
        assert list_generations(root) == []
    assert list(root.iterdir()) == []  # not published, so nothing remains


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "/a",
        "a\\b",
        ".hidden",
        "a\0",
        "ä",
        "a b",
        "x" * 101,
        "manifest.json",
        "manifest.sig",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(root: Path, name: str) -> None:
    with GenerationWriter(root) as writer, pytest.raises(FileNameInvalid):
        writer.add_bytes(name, b"")


def test_a_name_is_taken_once(root: Path) -> None:
    with GenerationWriter(root) as writer:
        writer.add_bytes("a", b"")
        with pytest.raises(FileNameInvalid, match="a is already in the generation"):
            writer.path("a")


def test_a_file_announced_and_not_written_is_refused(root: Path) -> None:
    with GenerationWriter(root) as writer:
        writer.path("a")
        with pytest.raises(MissingFile, match="a was announced"):
            writer.publish({})


def test_a_file_written_behind_the_writers_back_is_refused(root: Path) -> None:
    with GenerationWriter(root) as writer:
        writer.path("a").with_name("b").touch()
        writer.path("c").touch()
        with pytest.raises((UnexpectedFile, MissingFile), match=r"^[ab] "):
            writer.publish({})


def test_a_link_is_not_published(root: Path, tmp_path: Path) -> None:
    with GenerationWriter(root) as writer:
        writer.path("a").symlink_to(tmp_path)
        with pytest.raises(NotRegularFile, match="a is not"):
            writer.publish({})


@pytest.mark.parametrize("value", [float("nan"), object(), {1: 2}, b"bytes"], ids=["nan", "object", "key", "bytes"])
def test_metadata_that_is_not_json_is_refused(root: Path, value: object) -> None:
    with GenerationWriter(root) as writer, pytest.raises(ManifestInvalid):
        writer.publish({"value": value})


def test_a_manifest_that_no_reader_would_accept_is_not_written(root: Path) -> None:
    with GenerationWriter(root) as writer, pytest.raises(ManifestInvalid, match="the limit is"):
        writer.publish({"long": "x" * (4 * 2**20)})


def test_a_published_generation_takes_no_more(root: Path) -> None:
    with GenerationWriter(root) as writer:
        generation_id = writer.publish({})
        for again in (lambda: writer.publish({}), lambda: writer.add_bytes("late", b"")):
            with pytest.raises(PublishError, match="has been published"):
                again()
    open_generation(root, generation_id)


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from index.generation import GenerationWriter
writer = GenerationWriter(Path(sys.argv[1]))
writer.add_bytes("a", b"a" * 100_000)
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
writer.publish({})
"""


def test_a_writer_killed_before_the_rename_leaves_nothing_to_read(root: Path, publish: Publish) -> None:
    kept = publish("kept")
    repository = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(root)], cwd=repository, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (abandoned,) = root.glob(".tmp-*")
    assert json.loads((abandoned / "manifest.json").read_text())["files"].keys() == {"a"}  # all but the rename was done
    assert list_generations(root) == [kept]

    publish("young")
    assert abandoned.exists()  # its writer might still live
    day_ago_s = time.time() - 25 * 3600
    for path in [*abandoned.iterdir(), abandoned]:
        os.utime(path, (day_ago_s, day_ago_s))
    publish("old")
    assert not abandoned.exists()
    assert len(list_generations(root)) == 3
