"""The rows that could not become events: one JSON object a line, with the reason, the place and the row as it came."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from server.connect.errors import SourceUnusable, StrictStop
from server.connect.record import Record

RAW_CHARACTERS_MAX = 8_192
"""A row is shown as it came, up to this; nobody reads more of it."""


class Quarantine:
    """A quarantine file, made with its first row and appended to; `by_reason` counts.

    With `strict` the first row stops the connector. Raises SourceUnusable when it cannot be written.
    """

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._strict = strict
        self._unsynced = False
        self.by_reason: Counter[str] = Counter()

    def add(self, record: Record, reason: str, detail: str) -> None:
        """Puts a row aside. Raises StrictStop."""
        self.by_reason[reason] += 1
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "reason": reason,
            "detail": detail,
            "place": record.place,
            "event_id": record.event_id,
            "row": _readable(record.raw),
        }
        self._opened().write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._unsynced = True
        if self._strict:
            self.sync()
            raise StrictStop(f"{record.place}: {reason}: {detail}")

    def sync(self) -> None:
        """Brings the file to the disk; before a position behind these rows is committed."""
        if self._file is not None and self._unsynced:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sync()
        if self._file is not None:
            self._file.close()

    def _opened(self) -> IO[str]:
        if self._file is None:
            try:
                self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise SourceUnusable(f"the quarantine {self._path} cannot be written: {error.strerror}") from error
        return self._file


def _readable(raw: Any) -> Any:
    if isinstance(raw, bytes):
        raw = raw.decode("utf-8", "backslashreplace")
    if isinstance(raw, str):
        return raw[:RAW_CHARACTERS_MAX]
    if isinstance(raw, dict):
        return {_readable(name): _readable(value) for name, value in raw.items()}
    return raw
