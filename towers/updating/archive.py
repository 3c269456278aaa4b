"""The events that updates have read, kept beside the dataset: `<work_dir>/updates/events-<after>-<until>.parquet`.

A file holds all events that came into the log after `after` and not after `until` (milliseconds of the store's clock),
so the log is never read twice. A file is written beside, synced and renamed; a crash leaves none or the whole of it.
Many small files become one, which stands for those whose span it covers: a crash between leaves both, and the covered
ones are not read. A purged person's rows are taken out of the files, too.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from towers.schema import DataError

FILES_MAX = 32
_NAME = re.compile(r"events-(\d+)-(\d+)\.parquet")

EVENT_SCHEMA: Mapping[str, type[pl.DataType]] = {
    "position_ms": pl.Int64,
    "user_id": pl.String,
    "visitor_id": pl.String,
    "signs_in": pl.Boolean,
    "item_id": pl.String,
    "event_type": pl.String,
    "time_s": pl.Float64,
    "session_id": pl.String,
    "quantity": pl.Float32,
    "value": pl.Float32,
    "rating": pl.Float32,
    "position": pl.Float32,
    "dwell_s": pl.Float32,
    "context": pl.String,
}
"""One logged event a row, in the order of the log; `context` is a JSON object, absent numbers are null."""


class ArchiveInvalid(DataError, ValueError):
    """The directory of updates has a file that cannot be read, or a gap; the message says what to do."""


@dataclass(frozen=True)
class Span:
    """One file: it holds the log's entries in (after_ms, until_ms]."""

    after_ms: int
    until_ms: int
    path: Path

    def covers(self, other: Span) -> bool:
        """Whether everything of the other lies in this one."""
        return self.after_ms <= other.after_ms and other.until_ms <= self.until_ms


class EventArchive:
    """The directory of events that were read from the log."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def until_ms(self) -> int:
        """Up to where the log was read; 0 when it never was."""
        spans = self._spans()
        return spans[-1].until_ms if spans else 0

    def read(self) -> pl.DataFrame:
        """All events, by EVENT_SCHEMA. Raises ArchiveInvalid."""
        return pl.concat([pl.DataFrame(schema=dict(EVENT_SCHEMA)), *map(_read, self._spans())])

    def append(self, events: pl.DataFrame, after_ms: int, until_ms: int) -> None:
        """Keeps the events of (after_ms, until_ms]. Raises ArchiveInvalid where it would leave a gap, OSError."""
        if after_ms != self.until_ms or until_ms <= after_ms:
            raise ArchiveInvalid(
                f"{self._directory} ends at {self.until_ms}; the events of ({after_ms}, {until_ms}] do not follow"
            )
        self._write(events, after_ms, until_ms)
        if len(self._spans()) > FILES_MAX:
            self.rewrite(self.read())

    def rewrite(self, events: pl.DataFrame) -> None:
        """Puts these events in the place of all; the span stays."""
        spans = self._spans()
        if not spans:
            return
        if len(spans) == 1:  # of the same name: replaced in one step
            self._write(events, spans[0].after_ms, spans[0].until_ms)
            return
        self._write(events, spans[0].after_ms, spans[-1].until_ms)
        self._spans()  # takes away what the new one covers

    def _write(self, events: pl.DataFrame, after_ms: int, until_ms: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for stale in self._directory.glob(".tmp-*"):
            stale.unlink(missing_ok=True)
        beside = self._directory / f".tmp-{secrets.token_hex(8)}"
        events.select(list(EVENT_SCHEMA)).write_parquet(beside)
        _sync(beside)
        os.replace(beside, self._directory / f"events-{after_ms}-{until_ms}.parquet")
        _sync(self._directory)

    def _spans(self) -> list[Span]:
        """The files that count, in order; covered ones are deleted. Raises ArchiveInvalid on a gap."""
        if not self._directory.is_dir():
            return []
        found = [
            Span(int(match[1]), int(match[2]), path)
            for path in self._directory.iterdir()
            if (match := _NAME.fullmatch(path.name)) is not None
        ]
        found.sort(key=lambda span: (span.after_ms, -span.until_ms))
        kept: list[Span] = []
        for span in found:
            if kept and kept[-1].covers(span):
                span.path.unlink(missing_ok=True)
            elif kept and span.after_ms != kept[-1].until_ms:
                raise ArchiveInvalid(
                    f"{self._directory}: {span.path.name} does not begin where {kept[-1].path.name} ends; delete the "
                    "directory, and the next update reads the whole log again"
                )
            else:
                kept.append(span)
        return kept


def _read(span: Span) -> pl.DataFrame:
    try:
        events = pl.read_parquet(span.path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArchiveInvalid(
            f"{span.path} cannot be read: {error}; delete the directory, and the next update reads the whole log again"
        ) from error
    if dict(events.schema) != dict(EVENT_SCHEMA):
        raise ArchiveInvalid(f"{span.path} has other columns than this code writes; delete the directory")
    return events


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
