"""What a power failure leaves: the record of real syncs, and the cut."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.freshness.sync_record import (
    Cut,
    NoCompiler,
    Sync,
    build,
    cut_copy,
    durable_bytes,
    environment,
    read_record,
)

WRITES = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, b"synced")
os.fdatasync(file)
os.write(file, b" and not")
if os.fork() == 0:
    os.fsync(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT))
    os._exit(0)
os.wait()
os.close(file)
try:
    os.fsync(file)
except OSError:
    pass
"""


def test_every_sync_of_a_process_and_its_children_is_recorded_with_the_length_before_it(tmp_path: Path) -> None:
    try:
        library = build(tmp_path)
    except NoCompiler as error:
        pytest.skip(str(error))
    record, first, second = tmp_path / "record", tmp_path / "first", tmp_path / "second"
    subprocess.run(
        [sys.executable, "-c", WRITES, str(first), str(second)],
        env={**os.environ, **environment(library, record)},
        check=True,
    )
    syncs = read_record(record.read_text())
    assert [(sync.inode, sync.size_bytes) for sync in syncs] == [(first.stat().st_ino, 6), (second.stat().st_ino, 0)]
    assert all(sync.began_s <= sync.ended_s for sync in syncs)
    assert first.read_bytes() == b"synced and not"
    [cut, _] = cut_copy_of(first, second, tmp_path, syncs)
    assert cut == Cut("first", 14, 6)
    assert (tmp_path / "cut" / "first").read_bytes() == b"synced"


def cut_copy_of(first: Path, second: Path, tmp_path: Path, syncs: list[Sync]) -> list[Cut]:
    data = tmp_path / "data"
    data.mkdir()
    for path in (first, second):
        path.rename(data / path.name)  # a rewrite gives its file the name after the sync
    return cut_copy(data, tmp_path / "cut", syncs, float("inf"))


def test_only_calls_that_had_returned_count_and_only_those_of_the_file() -> None:
    syncs = [Sync(1, 5, 100, 1.0, 2.0), Sync(1, 5, 300, 3.0, 4.0), Sync(1, 6, 900, 1.0, 2.0), Sync(2, 5, 800, 1.0, 2.0)]
    assert durable_bytes(syncs, 1, 5, 1.5) == 0
    assert durable_bytes(syncs, 1, 5, 3.5) == 100
    assert durable_bytes(syncs, 1, 5, 4.0) == 300
    assert durable_bytes(syncs, 3, 5, 9.0) == 0


def test_two_threads_may_sync_at_once_and_the_longer_length_stands() -> None:
    assert durable_bytes([Sync(1, 5, 300, 1.0, 2.0), Sync(1, 5, 200, 0.5, 2.5)], 1, 5, 3.0) == 300


def test_what_was_never_synced_is_cut_to_nothing_and_the_manifest_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "appendonly.aof.1.incr.aof").write_bytes(b"12345")
    (data / "appendonly.aof.manifest").write_bytes(b"file one")
    assert cut_copy(data, tmp_path / "cut", [], 1.0) == [Cut("appendonly.aof.1.incr.aof", 5, 0)]
    assert (tmp_path / "cut" / "appendonly.aof.1.incr.aof").read_bytes() == b""
    assert (tmp_path / "cut" / "appendonly.aof.manifest").read_bytes() == (
        data / "appendonly.aof.manifest"
    ).read_bytes()


def test_a_record_that_is_not_whole_is_refused() -> None:
    [sync] = read_record("64768 12 345 1000000000 2500000000 77\n")
    assert sync == Sync(64768, 12, 345, 1.0, 2.5)
    with pytest.raises(ValueError, match="not enough values"):
        read_record("64768 12 345\n")
