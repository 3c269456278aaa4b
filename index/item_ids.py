"""Item ids ↔ item rows: millions of strings held as one blob and four arrays, never as a Python dict.

A lookup hashes each id with 64-bit xxHash (XXH3), finds it in the sorted hashes and then compares the string itself,
walking on over equal hashes, so a collision costs time and never gives a wrong row.

On disk (little endian, memory-mapped when opened, so that worker processes share it):

    magic b"TWRIDS\\x00\\x01" | item count u64 | blob size u64
    hashes u64[n], ascending | offsets into the blob u64[n + 1] | row of each hash i32[n] | UTF-8 blob

The class holds ids of any kind that are rows of a table; the users of a generation are kept in the same form.

Errors:
    ValueError
    └── ItemIdsError
        ├── ItemIdInvalid       empty, too long or not UTF-8
        ├── ItemIdDuplicate     the same id twice
        ├── ItemRowUnknown      a row outside [0, n)
        └── ItemIdsCorrupt      the stored form contradicts itself
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NewType

import numpy as np
import numpy.typing as npt
import xxhash

from index.compiled import read_only
from index.hashed_rows import rows_of_hashes

ItemId = NewType("ItemId", str)
"""The shop's own string for an item."""
ItemRow = NewType("ItemRow", int)
"""Our row number of an item in the arrays of one generation; -1 is «unknown»."""

ITEM_ID_SIZE_BYTES_MAX = 1024
"""A longer id is a mistake of the caller; the limit keeps one id from filling the blob."""
ITEM_COUNT_MAX = 2**31 - 1
"""Rows are int32."""

_MAGIC = b"TWRIDS\x00\x01"
_HEADER_SIZE_BYTES = 24
_UTF8_CONTINUATION_MASK = 0xC0
_UTF8_CONTINUATION = 0x80


class WrittenIds(NamedTuple):
    """Where the ids of rows are written, for whoever copies them as bytes and needs no strings.

    Attributes:
        text: (bytes,) uint8, UTF-8. offsets: (n + 1,) uint64, where each id begins in it.
        rows: the rows that were asked, numbered as `offsets` are; -1 stays -1.
    """

    text: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int32]


class ItemIdsError(ValueError):
    """Base of everything that is wrong with item ids."""


class ItemIdInvalid(ItemIdsError):
    """An id that cannot be kept."""


class ItemIdDuplicate(ItemIdsError):
    """An id that occurs twice."""


class ItemRowUnknown(ItemIdsError):
    """A row that no item has."""


class ItemIdsCorrupt(ItemIdsError):
    """A stored form that contradicts itself."""


def hash_item_id(encoded: bytes) -> int:
    """Unsigned 64-bit XXH3 of an id's UTF-8."""
    return xxhash.xxh3_64_intdigest(encoded)


class ItemIds:
    """The ids of rows 0 … n - 1, in both directions."""

    def __init__(
        self,
        blob: memoryview,
        offsets: npt.NDArray[np.uint64],  # (n + 1,)
        hashes: npt.NDArray[np.uint64],  # (n,) ascending
        hash_rows: npt.NDArray[np.int32],  # (n,) the row of each hash
    ) -> None:
        self._blob = blob
        self._text = np.frombuffer(blob, np.uint8)
        self._offsets = read_only(offsets)  # mapped or not: machine code is made for one type of array
        self._hashes = hashes
        self._hash_rows = hash_rows
        _check(blob, offsets, hashes, hash_rows)

    @classmethod
    def from_ids(cls, ids: Sequence[str]) -> ItemIds:
        """Number the ids in the order given: `ids[i]` becomes row `i`.

        Raises ItemIdInvalid and ItemIdDuplicate, each naming the id and its row.
        """
        if len(ids) > ITEM_COUNT_MAX:
            raise ItemIdsError(f"{len(ids)} item ids, more than the {ITEM_COUNT_MAX} that int32 rows can number")
        encoded = [_encode(item_id, row) for row, item_id in enumerate(ids)]
        hashes = np.fromiter(map(hash_item_id, encoded), np.uint64, len(encoded))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        hashes = hashes[order]
        _refuse_duplicates(encoded, hashes, order)
        offsets = np.zeros(len(encoded) + 1, np.uint64)
        np.cumsum(np.fromiter(map(len, encoded), np.uint64, len(encoded)), out=offsets[1:])
        return cls(memoryview(b"".join(encoded)), offsets, hashes, order)

    @classmethod
    def from_bytes(cls, data: bytes) -> ItemIds:
        """Read the stored form from memory. Raises ItemIdsCorrupt."""
        return cls._from_buffer(memoryview(data), "item ids in memory")

    @classmethod
    def open(cls, path: Path) -> ItemIds:
        """Map the stored form from a file, without copying it. Raises ItemIdsCorrupt, OSError."""
        with path.open("rb") as file:
            if path.stat().st_size < _HEADER_SIZE_BYTES:
                raise ItemIdsCorrupt(f"{path}: {path.stat().st_size} bytes, too short for a header")
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return cls._from_buffer(view, str(path))

    @classmethod
    def _from_buffer(cls, view: memoryview, where: str) -> ItemIds:
        if len(view) < _HEADER_SIZE_BYTES or bytes(view[:8]) != _MAGIC:
            raise ItemIdsCorrupt(f"{where}: does not begin with the mark of item ids, version 1")
        count = int.from_bytes(view[8:16], "little")
        blob_size_bytes = int.from_bytes(view[16:24], "little")
        expected = _HEADER_SIZE_BYTES + 8 * count + 8 * (count + 1) + 4 * count + blob_size_bytes
        if count > ITEM_COUNT_MAX or expected != len(view):
            raise ItemIdsCorrupt(
                f"{where}: {count} ids in {blob_size_bytes} bytes of text need {expected} bytes, found {len(view)}"
            )
        hashes_end = _HEADER_SIZE_BYTES + 8 * count
        offsets_end = hashes_end + 8 * (count + 1)
        rows_end = offsets_end + 4 * count
        try:
            return cls(
                view[rows_end:],
                np.frombuffer(view[hashes_end:offsets_end], "<u8"),
                np.frombuffer(view[_HEADER_SIZE_BYTES:hashes_end], "<u8"),
                np.frombuffer(view[offsets_end:rows_end], "<i4"),
            )
        except ItemIdsCorrupt as error:
            raise ItemIdsCorrupt(f"{where}: {error}") from error

    def to_bytes(self) -> bytes:
        """The stored form; `from_bytes` and `open` read it back."""
        return b"".join(
            [
                _MAGIC,
                len(self).to_bytes(8, "little"),
                len(self._blob).to_bytes(8, "little"),
                self._hashes.astype("<u8").tobytes(),
                self._offsets.astype("<u8").tobytes(),
                self._hash_rows.astype("<i4").tobytes(),
                self._blob,
            ]
        )

    def __len__(self) -> int:
        return len(self._hashes)

    def rows(self, ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """The row of each id, shape (len(ids),), int32; -1 where the id is unknown."""
        found = np.full(len(ids), -1, np.int32)
        if len(self) == 0 or len(ids) == 0:
            return found
        encoded = [item_id.encode("utf-8", "surrogatepass") for item_id in ids]
        hashes = np.fromiter(map(hash_item_id, encoded), np.uint64, len(encoded))
        positions = np.searchsorted(self._hashes, hashes)
        nearest = np.minimum(positions, len(self) - 1)
        rows = self._hash_rows[nearest]
        starts = self._offsets[rows].tolist()
        ends = self._offsets[rows + 1].tolist()
        blob = self._blob
        for at in np.flatnonzero(self._hashes[nearest] == hashes).tolist():
            if blob[starts[at] : ends[at]] == encoded[at]:
                found[at] = rows[at]
            else:
                found[at] = self._row_after_collision(encoded[at], hashes[at], int(positions[at]) + 1)
        return found

    def rows_of_hashes(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """The row of the item whose id has each hash, shape (n,), int32; -1 where none has.

        Ids themselves are not compared: of 1,000,000 items two share a hash once in 40 million catalogues.
        """
        return rows_of_hashes(self._hashes, self._hash_rows, hashes)

    def ids(self, rows: npt.NDArray[np.integer[Any]] | Sequence[int]) -> list[str]:
        """The id of each row. Raises ItemRowUnknown for a row outside [0, n), -1 included."""
        wanted = np.asarray(rows, np.int64)
        outside = (wanted < 0) | (wanted >= len(self))
        if outside.any():
            raise ItemRowUnknown(f"row {wanted[outside][0]} is outside the {len(self)} known items")
        starts, ends = self._offsets[wanted].astype(np.int64), self._offsets[wanted + 1].astype(np.int64)
        behind = np.cumsum(ends - starts)  # where each id ends in a text of just these
        size_bytes = int(behind[-1]) if len(behind) else 0
        places = np.arange(size_bytes) + np.repeat(ends - behind, ends - starts)
        text = self._text[places].tobytes()
        cuts = [0, *behind.tolist()]
        if text.isascii():  # then a byte is a character
            ascii_text = text.decode("ascii")
            return [ascii_text[start:end] for start, end in pairwise(cuts)]
        return [text[start:end].decode() for start, end in pairwise(cuts)]

    def written(self, rows: npt.NDArray[np.int32]) -> WrittenIds:
        """Where the ids of rows, of any shape, are written; nothing is copied and no row is looked at."""
        return WrittenIds(self._text, self._offsets, rows)

    def _row_after_collision(self, encoded: bytes, item_hash: np.uint64, position: int) -> int:
        while position < len(self) and self._hashes[position] == item_hash:
            row = int(self._hash_rows[position])
            if self._blob[int(self._offsets[row]) : int(self._offsets[row + 1])] == encoded:
                return row
            position += 1
        return -1


def _encode(item_id: str, row: int) -> bytes:
    try:
        encoded = item_id.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ItemIdInvalid(f"item id {item_id!r} in row {row} is not valid Unicode") from error
    if not encoded:
        raise ItemIdInvalid(f"the item id in row {row} is empty")
    if len(encoded) > ITEM_ID_SIZE_BYTES_MAX:
        raise ItemIdInvalid(
            f"item id {item_id[:40]!r}… in row {row} has {len(encoded)} bytes; the limit is {ITEM_ID_SIZE_BYTES_MAX}"
        )
    return encoded


def _refuse_duplicates(encoded: list[bytes], hashes: npt.NDArray[np.uint64], order: npt.NDArray[np.int32]) -> None:
    """Equal ids have equal hashes, so only the runs of equal hashes are compared."""
    first_row_by_id: dict[bytes, int] = {}
    for at in np.flatnonzero(hashes[1:] == hashes[:-1]).tolist():
        for row in (int(order[at]), int(order[at + 1])):
            first_row = first_row_by_id.setdefault(encoded[row], row)
            if first_row != row:
                raise ItemIdDuplicate(f"item id {encoded[row].decode()!r} occurs twice, in rows {first_row} and {row}")


def _check(
    blob: memoryview,
    offsets: npt.NDArray[np.uint64],
    hashes: npt.NDArray[np.uint64],
    hash_rows: npt.NDArray[np.int32],
) -> None:
    """After this no lookup can leave the blob or the arrays, and every id decodes."""
    count = len(hashes)
    if len(offsets) != count + 1 or len(hash_rows) != count:
        raise ItemIdsCorrupt(f"{count} hashes, {len(offsets)} offsets and {len(hash_rows)} rows do not fit")
    if offsets[0] != 0 or offsets[-1] != len(blob):
        raise ItemIdsCorrupt(f"offsets run from {offsets[0]} to {offsets[-1]} over {len(blob)} bytes of text")
    if (offsets[1:] <= offsets[:-1]).any():
        raise ItemIdsCorrupt("offsets do not ascend")
    if (hashes[1:] < hashes[:-1]).any():
        raise ItemIdsCorrupt("hashes do not ascend")
    if count and (hash_rows.min() < 0 or hash_rows.max() >= count):
        raise ItemIdsCorrupt(f"rows {hash_rows.min()} to {hash_rows.max()} for {count} items")
    try:
        str(blob, "utf-8")
    except UnicodeDecodeError as error:
        raise ItemIdsCorrupt(f"the text is not UTF-8: {error.reason} at byte {error.start}") from error
    first_bytes = np.frombuffer(blob, np.uint8)[offsets[:-1].astype(np.int64)]
    if ((first_bytes & _UTF8_CONTINUATION_MASK) == _UTF8_CONTINUATION).any():
        raise ItemIdsCorrupt("an id begins inside a character")
