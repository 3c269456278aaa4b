"""The columns of a batch's lists as protobuf's bytes, all at once: ids, scores and sources of each RecommendResponse.

A field is its tag, its length as a varint, and its bytes (protobuf.dev/programming-guides/encoding): one field for each
id, one for all scores as float32, one for all sources as varints of one byte. What stands before and behind them in the
message is the encoder's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.lists import ListColumns
from towers.compiled import kernel
from towers.prefetch import prefetch

FLOAT_SIZE_BYTES = 4
HEAD_SIZE_BYTES_MAX = 6
"""A tag of one byte and a length below 2^32."""


def written_lists(
    lists: ListColumns, tags: NDArray[np.uint8], source_of_bits: NDArray[np.uint8]
) -> Sequence[memoryview | None]:
    """The fields of each list; None for a list with a score that is not a finite number or a row that no item has.

    `tags` (3,): of the ids, the scores and the sources. `source_of_bits` (2^n,): what is written for a set of flags.
    """
    data, ends, fit = write_fields(WrittenColumns.of(lists), tags, source_of_bits)
    view, begin = memoryview(data), 0
    fields: list[memoryview | None] = []
    for end, is_fit in zip(ends.tolist(), fit.tolist(), strict=True):
        fields.append(view[begin:end] if is_fit else None)
        begin = end
    return fields


class WrittenColumns(NamedTuple):
    """What the kernels read of a batch's lists: `text`, `offsets`, `rows` as in WrittenIds, the rest as in
    ListColumns."""

    text: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    rows: NDArray[np.int32]
    counts: NDArray[np.int64]
    scores: NDArray[np.float32]
    sources: NDArray[np.uint32]

    @classmethod
    def of(cls, lists: ListColumns) -> WrittenColumns:
        """Nothing is copied."""
        return cls(*lists.row_ids.written(lists.rows), lists.counts, lists.scores, lists.sources)


def warm() -> None:
    """Compiles what answers need, or loads it from where it is kept."""
    written_lists(ListColumns.of(["-"], [0.0], [0]), np.zeros(3, np.uint8), np.zeros(1, np.uint8))


@kernel
def write_fields(columns: Any, tags: Any, source_of_bits: Any) -> Any:
    """(bytes,) uint8 the fields of list after list, (B,) int64 where each ends, (B,) bool whether it is fit to be sent.

    `columns`: WrittenColumns, here and in what follows.
    """
    list_count = len(columns.rows)
    places = np.arange(list_count)
    fit, size_max = measure_lists(columns, places)
    out, ends = np.empty(size_max, np.uint8), np.empty(list_count, np.int64)
    at = np.int64(0)
    for place in places:
        if fit[place]:
            at = put_list(out, at, columns, place, tags, source_of_bits)
        ends[place] = at
    return out, ends, fit


@kernel
def measure_lists(columns: Any, places: Any) -> Any:
    """(n,) bool whether the lists at `places` (n,) are fit to be sent, and how many bytes their fields may take.

    What the lists are made of comes into the caches on the way.
    """
    text, offsets, rows = columns.text, columns.offsets, columns.rows
    counts, scores = columns.counts, columns.scores
    item_count = len(offsets) - 1
    fit = np.ones(len(places), np.bool_)
    for number, place in enumerate(places):
        for rank in range(counts[place]):
            row = rows[place, rank]
            if row < 0 or row >= item_count or not np.isfinite(scores[place, rank]):
                fit[number] = False
                break
            prefetch(offsets, row)
    size_max = np.int64(0)
    for number, place in enumerate(places):
        if fit[number]:
            for rank in range(counts[place]):
                row = rows[place, rank]
                begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
                prefetch(text, begin)
                prefetch(text, end - 1)  # most often the same line
                size_max += end - begin
        size_max += counts[place] * (HEAD_SIZE_BYTES_MAX + FLOAT_SIZE_BYTES + 1) + 2 * HEAD_SIZE_BYTES_MAX
    return fit, size_max


@kernel
def put_list(out: Any, at: Any, columns: Any, place: Any, tags: Any, source_of_bits: Any) -> Any:
    """Writes the fields of the list at `place`, which is fit to be sent; where its bytes end."""
    text, offsets, rows, scores, sources = columns.text, columns.offsets, columns.rows, columns.scores, columns.sources
    count = columns.counts[place]
    if count == 0:
        return at
    for rank in range(count):
        row = rows[place, rank]
        begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        at = put_head(out, at, tags[0], end - begin)
        for byte in range(begin, end):
            out[at] = text[byte]
            at += 1
    at = put_head(out, at, tags[1], FLOAT_SIZE_BYTES * count)
    bits = scores.view(np.uint32)
    for rank in range(count):
        word = bits[place, rank]
        for byte in range(FLOAT_SIZE_BYTES):  # little endian, whatever the processor is
            out[at] = (word >> np.uint32(8 * byte)) & np.uint32(0xFF)
            at += 1
    at = put_head(out, at, tags[2], count)
    for rank in range(count):
        out[at] = source_of_bits[sources[place, rank] & np.uint32(len(source_of_bits) - 1)]
        at += 1
    return at


@kernel
def put_head(out: Any, at: Any, tag: Any, size_bytes: Any) -> Any:
    """Writes a field's tag and length; where its bytes begin."""
    out[at] = tag
    at += 1
    while size_bytes >= 0x80:
        out[at] = size_bytes & 0x7F | 0x80
        size_bytes >>= 7
        at += 1
    out[at] = size_bytes
    return at + 1
