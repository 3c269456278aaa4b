"""Opening: whatever was done to a generation is refused by name, before anything is parsed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.generation import (
    ChecksumMismatch,
    FormatUnsupported,
    GenerationError,
    GenerationIdInvalid,
    GenerationNotFound,
    ManifestError,
    ManifestInvalid,
    ManifestMismatch,
    MissingFile,
    NotRegularFile,
    SizeMismatch,
    UnexpectedFile,
    list_generations,
    open_generation,
)
from index.generation.manifest import parse_manifest

Publish = Callable[..., str]
KEY = b"0123456789abcdef"


def test_a_bit_flipped_in_any_file_is_refused_by_name(root: Path, publish: Publish) -> None:
    generation_id = publish(key=KEY)
    open_generation(root, generation_id, KEY)
    files = [path for path in (root / generation_id).iterdir() if path.stat().st_size]
    assert {path.name for path in files} == {"manifest.json", "manifest.sig", "weights.safetensors", "golden.json"}
    for path in files:
        intact = path.read_bytes()
        for at in sorted({0, 1, len(intact) // 3, len(intact) // 2, len(intact) - 1}):
            for bit in (0, 7):
                damaged = bytearray(intact)
                damaged[at] ^= 1 << bit
                path.write_bytes(damaged)
                with pytest.raises(GenerationError) as caught:
                    open_generation(root, generation_id, KEY)
                assert generation_id in str(caught.value)
                expected_names = ("manifest.json", "manifest.sig") if path.name == "manifest.json" else (path.name,)
                assert any(name in str(caught.value) for name in expected_names)
        path.write_bytes(intact)
    open_generation(root, generation_id, KEY)


def test_a_flipped_manifest_is_refused_without_a_key_too(root: Path, publish: Publish) -> None:
    generation_id = publish()
    path = root / generation_id / "manifest.json"
    intact = path.read_bytes()
    for at in range(0, len(intact), 7):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
        with pytest.raises(ManifestMismatch, match=f"{generation_id}: manifest.json has SHA-256"):
            open_generation(root, generation_id)


def test_a_changed_file_says_what_was_expected_and_found(root: Path, publish: Publish) -> None:
    generation_id = publish()
    (root / generation_id / "golden.json").write_bytes(b'{"answers": {}}')
    found = hashlib.sha256(b'{"answers": {}}').hexdigest()
    with pytest.raises(
        ChecksumMismatch, match=rf"{generation_id}: golden.json has SHA-256 {found}, expected [0-9a-f]{{64}}"
    ):
        open_generation(root, generation_id)


def test_a_truncated_file_is_refused(root: Path, publish: Publish) -> None:
    generation_id = publish()
    os.truncate(root / generation_id / "golden.json", 3)
    with pytest.raises(SizeMismatch, match=r"golden\.json has 3 bytes, expected 15"):
        open_generation(root, generation_id)


@pytest.mark.parametrize("name", ["golden.json", "manifest.json", "empty"])
def test_a_missing_file_is_refused(root: Path, publish: Publish, name: str) -> None:
    generation_id = publish()
    (root / generation_id / name).unlink()
    with pytest.raises(MissingFile, match=f"{name} is missing"):
        open_generation(root, generation_id)


def test_a_file_that_is_not_listed_is_refused(root: Path, publish: Publish) -> None:
    generation_id = publish()
    (root / generation_id / "evil.pickle").touch()
    with pytest.raises(UnexpectedFile, match=r"evil\.pickle is not in the manifest"):
        open_generation(root, generation_id)


@pytest.mark.parametrize("name", ["golden.json", "manifest.json"])
@pytest.mark.parametrize("kind", ["link", "broken link", "directory", "pipe"])
def test_what_is_not_a_regular_file_is_refused(
    root: Path, publish: Publish, name: str, kind: str, tmp_path: Path
) -> None:
    generation_id = publish()
    path = root / generation_id / name
    if kind == "link":
        path.symlink_to(shutil.move(path, tmp_path / "elsewhere"))  # the very same content
    elif kind == "broken link":
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "directory":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(NotRegularFile, match=f"{name} is not a regular file"):
        open_generation(root, generation_id)


def test_a_linked_generation_is_refused(root: Path, publish: Publish, tmp_path: Path) -> None:
    generation_id = publish()
    (root / generation_id).symlink_to(shutil.move(root / generation_id, tmp_path / "elsewhere"))
    with pytest.raises(NotRegularFile, match=f"{generation_id} is not a directory"):
        open_generation(root, generation_id)


def test_a_generation_under_another_name_is_refused(root: Path, publish: Publish) -> None:
    generation_id = publish()
    later = f"20990101T000000-{generation_id[-16:]}"
    os.rename(root / generation_id, root / later)
    with pytest.raises(ManifestMismatch, match="was created at"):
        open_generation(root, later)


@pytest.mark.parametrize(
    "generation_id", ["", "..", "../20260131T120000-0123456789abcdef", "CURRENT", "20260131T120000-0123"]
)
def test_what_is_no_id_leads_nowhere(root: Path, generation_id: str) -> None:
    with pytest.raises(GenerationIdInvalid, match="is no generation id"):
        open_generation(root, generation_id)


def test_an_unknown_generation_is_named(root: Path) -> None:
    with pytest.raises(GenerationNotFound, match="no generation 20260131T120000-0123456789abcdef"):
        open_generation(root, "20260131T120000-0123456789abcdef")
    assert list_generations(root) == []


def _parse(data: bytes) -> Any:
    """Parse a manifest whose id was made to fit, as a hostile publisher would."""
    return parse_manifest(f"20260131T120000-{hashlib.sha256(data).hexdigest()[:16]}", data)


VALID: dict[str, Any] = {
    "format_version": 1,
    "parent": None,
    "created_at": "2026-01-31T12:00:00Z",
    "files": {"a": {"sha256": "0" * 64, "size_bytes": 1}},
    "metadata": {},
}


def test_a_manifest_of_the_present_format_is_read() -> None:
    assert _parse(json.dumps(VALID).encode()).files["a"].size_bytes == 1


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_format_version_is_refused(version: object) -> None:
    with pytest.raises(FormatUnsupported, match="this program reads 1"):
        _parse(json.dumps(VALID | {"format_version": version}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../a": VALID["files"]["a"]}},
        {"files": {"manifest.json": VALID["files"]["a"]}},
        {"files": {"a": {"sha256": "0" * 63, "size_bytes": 1}}},
        {"files": {"a": {"sha256": "0" * 64, "size_bytes": -1}}},
        {"files": {"a": {"sha256": "0" * 64, "size_bytes": True}}},
        {"files": {str(n): VALID["files"]["a"] for n in range(1001)}},
        {"files": []},
        {"created_at": "2026-01-31T12:00:00"},
        {"created_at": "0001-01-01T00:00:00+23:59"},
        {"parent": 7},
        {"extra": 1},
    ],
    ids=[
        "path",
        "manifest",
        "hash",
        "negative",
        "bool",
        "too many",
        "list",
        "no zone",
        "before year 1",
        "parent",
        "extra",
    ],
)
def test_a_manifest_of_other_fields_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid):
        _parse(json.dumps(VALID | change).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 200_000,
        b"1" * 10_000,
        b'{"format_version": 1}',
        b" " * (4 * 2**20 + 1),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        _parse(data)


any_json = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
).map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=200) | any_json)
def test_whatever_the_bytes_only_a_manifest_error_comes(data: bytes) -> None:
    with pytest.raises(ManifestError):
        _parse(data)


def test_deep_metadata_of_a_fitting_manifest_is_refused_or_read() -> None:
    deep = json.dumps(VALID).replace('"metadata": {}', '"metadata": {"a": ' + "[" * 900 + "]" * 900 + "}")
    try:
        _parse(deep.encode())
    except ManifestInvalid:
        return
