"""Writes that are on the disk when they return, and replacements that are never half there."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from index.generation.layout import TEMPORARY_PREFIX


def write_durably(path: Path, data: bytes) -> None:
    """Create a file with this content and fsync it; the directory's entry is the caller's to fsync."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Replace a file's content in one step: a reader sees the old or the new, also after a crash."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(8)}")
    try:
        write_durably(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def append_durably(path: Path, line: bytes) -> None:
    """Append one line and fsync; a line torn by a crash before is closed first."""
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def fsync_path(path: Path) -> None:
    """Fsync a file or a directory by name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
