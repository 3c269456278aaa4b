"""Files as a source: Parquet, CSV, TSV and JSON lines, one after the other, each from its committed offset on.

Parquet is scanned lazily in chunks (polars). Text is read line by line, so that one damaged line is one bad row, and
the delivery goes on at the byte where it stood; memory holds one chunk, whatever the file's size. An event id is made
of the file's name, the row's number and a hash of the row: a file replaced by another of the same name has other ids.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import xxhash

from server.connect.errors import BadRow, SourceUnusable
from server.connect.offsets import FileOffset, OffsetFile
from server.connect.record import Batch, Record, event_id_of

PARQUET_SUFFIXES = (".parquet", ".pq")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
CHUNK_ROWS = 16_384
"""Of Parquet, held in memory at a time."""
HEAD_BYTES = 4_096
LINE_BYTES_MAX = 1_048_576
"""A longer line is no event but a damaged file."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Of a row: the file, how many rows come before the next one, and at which byte that begins."""

    file: Path
    rows: int
    next_byte: int


class FileSource:
    """Reads files in the order given; `open_offsets` is called, and its file held, once the files are found good.

    Raises SourceUnusable for a file that is missing or of another kind, OffsetsInvalid.
    """

    def __init__(self, files: Sequence[Path], open_offsets: Callable[[], OffsetFile]) -> None:
        for file in files:
            if not file.is_file():
                raise SourceUnusable(f"there is no file {file}")
            kind_of(file)
        self._offsets = open_offsets()
        self._heads = {file: _head(file) for file in files}
        self.replaced = [file for file in files if self._was_replaced(file)]
        """Files whose committed offset is of another file of the same name: read from their start."""
        self._rows = self._all_rows(files)
        self._ended = False

    def read(self, count_max: int, _: float, /) -> Batch | None:
        """The next rows; a file never waits."""
        rows = list(islice(self._rows, count_max))
        if not rows:
            self._ended = True
            return None
        return Batch([record for record, _ in rows], [place for _, place in _last_of_each_file(rows)])

    @property
    def ended(self) -> bool:
        """Whether every file was read to its end."""
        return self._ended

    def commit(self, positions: Sequence[Any]) -> None:
        """Writes the offset file."""
        places: dict[Path, _Place] = {place.file: place for position in positions for place in position}
        self._offsets.commit(
            {
                file: FileOffset(
                    rows=place.rows,
                    next_byte=place.next_byte,
                    head_bytes=self._heads[file][0],
                    head=self._heads[file][1],
                )
                for file, place in places.items()
            }
        )

    def close(self) -> None:
        """Closes the file that is open, and lets the offset file go."""
        self._rows.close()
        self._offsets.close()

    def _was_replaced(self, file: Path) -> bool:
        offset = self._offsets.of(file)
        if offset is None:
            return False
        return file.stat().st_size < offset.next_byte or _head(file, offset.head_bytes)[1] != offset.head

    def _all_rows(self, files: Sequence[Path]) -> Generator[tuple[Record, _Place], None, None]:
        for file in files:
            offset = None if file in self.replaced else self._offsets.of(file)
            begin = _Place(file, offset.rows, offset.next_byte) if offset else _Place(file, 0, 0)
            read = {"parquet": _parquet_rows, "json": _json_rows}.get(kind_of(file), _csv_rows)
            try:
                yield from read(begin)
            except (OSError, pl.exceptions.PolarsError) as error:
                first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise SourceUnusable(f"{file}: cannot be read: {first_line}") from error


def kind_of(file: Path) -> str:
    """`parquet`, `json` or the separator of a CSV file. Raises SourceUnusable."""
    suffix = file.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return "parquet"
    if suffix in JSON_SUFFIXES:
        return "json"
    if suffix in SEPARATORS:
        return SEPARATORS[suffix]
    known = ", ".join((*PARQUET_SUFFIXES, *SEPARATORS, *JSON_SUFFIXES))
    raise SourceUnusable(f"{file}: unknown kind of file; expected one of {known}")


def _record(file: Path, number: int, row: Any, raw: Any, hashed: bytes) -> Record:
    digest = xxhash.xxh3_64_hexdigest(hashed)
    return Record(f"{file.name}:{number + 1}", event_id_of("file", file.name, number + 1, digest), row, raw)


def _parquet_rows(begin: _Place) -> Iterator[tuple[Record, _Place]]:
    frame, number = pl.scan_parquet(begin.file, glob=False), begin.rows
    while chunk := frame.slice(number, CHUNK_ROWS).collect().to_dicts():
        for row in chunk:
            number_before, number = number, number + 1
            record = _record(begin.file, number_before, row, row, repr(tuple(row.values())).encode("utf-8"))
            yield record, _Place(begin.file, number, 0)


def _json_rows(begin: _Place) -> Iterator[tuple[Record, _Place]]:
    with begin.file.open("rb") as file:
        file.seek(begin.next_byte)
        number, next_byte = begin.rows, begin.next_byte
        for line in _lines(file):
            next_byte += len(line)
            if line.strip():
                yield (
                    _record(begin.file, number, json_row(line), line, line.strip()),
                    _Place(begin.file, number + 1, next_byte),
                )
                number += 1


def json_row(data: bytes | str) -> dict[str, Any] | BadRow:
    """The object that a line or a message holds, or what is wrong with it."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        return BadRow("no_json", str(error))
    if not isinstance(row, dict):
        return BadRow("no_json", f"an object was expected, not {type(row).__name__}")
    return row


def _csv_rows(begin: _Place) -> Iterator[tuple[Record, _Place]]:
    separator = kind_of(begin.file)
    with begin.file.open("rb") as file:
        header_lines = _Counted(file)
        names = next(csv.reader(header_lines, delimiter=separator, strict=True), [])
        if not names or len(set(names)) != len(names):
            raise SourceUnusable(f"{begin.file}: its first line must name the columns, each once; it has {names}")
        names[0] = names[0].removeprefix("\ufeff")
        next_byte, number = max(begin.next_byte, header_lines.size_bytes), begin.rows
        while True:
            file.seek(next_byte)
            lines = _Counted(file)
            for row in _parsed(names, csv.reader(lines, delimiter=separator, strict=True), lines):
                raw, torn = lines.taken(), False
                if isinstance(row, BadRow) and len(raw) > 1:
                    # A quote that is never closed swallows lines: only the first of them is bad.
                    raw, torn = raw[:1], True
                data = b"".join(raw)
                next_byte += len(data)
                if row is not None:
                    yield (
                        _record(begin.file, number, row, data, data.strip()),
                        _Place(begin.file, number + 1, next_byte),
                    )
                    number += 1
                if torn:
                    break
            else:
                return


def _parsed(names: list[str], rows: Iterator[list[str]], lines: _Counted) -> Iterator[dict[str, str] | BadRow | None]:
    """Each row, why it is none, or None for an empty line."""
    while True:
        try:
            values = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow("no_csv", str(error))
        else:
            yield _csv_row(names, values, lines.undecodable) if values else None


def _csv_row(names: list[str], values: list[str], undecodable: bool) -> dict[str, str] | BadRow:
    if undecodable:
        return BadRow("no_utf8", "the row is not UTF-8")
    if len(values) != len(names):
        return BadRow("no_csv", f"the row has {len(values)} fields where the header names {len(names)}")
    return dict(zip(names, values, strict=True))


class _Counted:
    """Lines as text for the csv module, which pulls them one by one; counts their bytes and keeps the latest ones."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _lines(file)
        self._latest: list[bytes] = []
        self.size_bytes = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.size_bytes += len(line)
            self._latest.append(line)
            yield line.decode("utf-8", "surrogateescape").replace("\0", "\ufffd")

    @property
    def undecodable(self) -> bool:
        """Whether the lines since `taken` are not UTF-8."""
        try:
            b"".join(self._latest).decode()
        except UnicodeDecodeError:
            return True
        return False

    def taken(self) -> list[bytes]:
        """The lines since the last call."""
        lines, self._latest = self._latest, []
        return lines


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES_MAX):
        yield line


def _last_of_each_file(rows: list[tuple[Record, _Place]]) -> list[tuple[Record, _Place]]:
    return list({place.file: (record, place) for record, place in rows}.values())


def _head(file: Path, size_bytes: int = HEAD_BYTES) -> tuple[int, str]:
    with file.open("rb") as opened:
        data = opened.read(size_bytes)
        digest = xxhash.xxh3_128(data)
        if kind_of(file) == "parquet":  # is written once, and its end describes all of it
            opened.seek(max(0, file.stat().st_size - HEAD_BYTES))
            digest.update(opened.read())
    return len(data), digest.hexdigest()
