"""Write a dataset so that it is there whole or not at all.

Everything goes into a directory beside the target, is flushed to the disk, and only then takes the target's name. One
ingest at a time writes into a work directory (a lock file); what an interrupted one left is removed by the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from towers.schema.errors import IngestRunningError


@contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """Give an empty directory to write into; when the block ends well, it becomes `target`, else it is removed.

    Raises:
        IngestRunningError: another process is writing the same target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    former = target.with_name(target.name + ".former")
    with _locked(target.with_name(f".{target.name}.lock"), target):
        if former.exists() and not target.exists():  # killed between the two renames below
            former.rename(target)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for file in partial.iterdir():
                _flush(file)
            _flush(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(former, ignore_errors=True)
        if target.exists():
            target.rename(former)
        partial.rename(target)
        _flush(target.parent)
        shutil.rmtree(former, ignore_errors=True)


@contextmanager
def _locked(lock: Path, target: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IngestRunningError(f"{target}: another ingest is writing it; wait for it to end") from error
        yield


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
