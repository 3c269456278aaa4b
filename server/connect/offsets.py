"""The offset file: how far each file has been delivered. Replaced in one step, locked while a connector runs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from index.generation.durable import replace_durably
from server.connect.errors import OffsetsInvalid

VERSION = 1


class FileOffset(BaseModel):
    """Where the delivery of one file stands: everything before it is acknowledged.

    `rows` rows are behind it, in a text file `next_byte` bytes; `head` is a hash of the file's first `head_bytes`
    bytes (of Parquet also of its last ones), by which a file that was replaced under the same name is noticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=0)
    next_byte: int = Field(ge=0)
    head_bytes: int = Field(ge=0)
    head: str


class _Offsets(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = VERSION
    files: dict[str, FileOffset] = Field(default_factory=dict)


class OffsetFile:
    """An offset file, held by one connector at a time. Raises OffsetsInvalid."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._lock = os.open(file.with_name(f"{file.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OffsetsInvalid(f"the offset file {file} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise OffsetsInvalid(f"the offset file {file} is in use by another connector") from error
        try:
            self._offsets = self._read()
        except OffsetsInvalid:
            self.close()
            raise

    def of(self, file: Path) -> FileOffset | None:
        """The committed offset of a data file, None when it is new."""
        return self._offsets.files.get(str(file.resolve()))

    def commit(self, offsets: dict[Path, FileOffset]) -> None:
        """Sets these files' offsets; on the disk when it returns."""
        files = {**self._offsets.files, **{str(file.resolve()): offset for file, offset in offsets.items()}}
        self._offsets = _Offsets(files=files)
        replace_durably(self.file, self._offsets.model_dump_json(indent=1).encode())

    def close(self) -> None:
        """Lets another connector have it."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> _Offsets:
        try:
            offsets = _Offsets.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return _Offsets()
        except (OSError, ValidationError) as error:
            raise OffsetsInvalid(
                f"the offset file {self.file} cannot be read; delete it to deliver its files from their start"
            ) from error
        if offsets.version != VERSION:
            raise OffsetsInvalid(f"the offset file {self.file} is of version {offsets.version}, expected {VERSION}")
        return offsets
