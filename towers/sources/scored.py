"""Scored items: for each request the few items that a source has a score for, and the kernels that choose from them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.features.purchases import find_row
from towers.sources.base import Shown

_INT32_MAX = 2**31 - 1
_LOCAL = threading.local()


@dataclass(frozen=True, slots=True)
class ScoredItems:
    """CSR: request `i` has scores for `rows[offsets[i]:offsets[i + 1]]`, each row once, in any order.

    Attributes:
        offsets: (B + 1,). rows: (T,) int32. scores: (T,) float32, above 0.
        item_count: rows are below it.
    """

    offsets: Int64Array
    rows: Int32Array
    scores: FloatArray
    item_count: int

    def best(self, k: int, shown: Shown) -> Int32Array:
        """See `Asked.best`."""
        return _best(
            self.offsets,
            self.rows,
            self.scores,
            shown.retrievable,
            shown.excluded_offsets,
            shown.excluded_rows,
            shown.masks,
            shown.mask_of,
            k,
        )

    def write_scores(self, rows: Int32Array, out: FloatArray) -> None:
        """See `Asked.write_scores`."""
        columns = scratch("columns", max(self.item_count, int(rows.max(initial=-1)) + 1), np.int32)
        _write(self.offsets, self.rows, self.scores, rows, columns, out)


def scratch(name: str, count: int, dtype: type[np.generic]) -> np.ndarray:
    """Zeros of this thread's own, at least `count`; whoever borrows them leaves them zero."""
    kept: dict[str, np.ndarray] = _LOCAL.__dict__
    if name not in kept or len(kept[name]) < count:
        kept[name] = np.zeros(count, dtype)
    return kept[name]


@kernel
def _best(
    offsets: Int64Array,
    rows: Int32Array,
    scores: FloatArray,
    retrievable: BoolArray,
    excluded_offsets: Int64Array,
    excluded: Int32Array,
    masks: BoolArray,
    mask_of: Int64Array,
    k: int,
) -> Int32Array:
    request_count = len(offsets) - 1
    out = np.full((request_count, k), -1, np.int32)
    bits = scores.view(np.int32)  # of numbers above 0 these ascend as the numbers do
    for request in range(request_count):
        begin, end = offsets[request], offsets[request + 1]
        hidden = (excluded_offsets[request], excluded_offsets[request + 1])
        mask = mask_of[request]
        keys = np.empty(end - begin, np.int64)
        count = 0
        for place in range(begin, end):
            row = rows[place]
            if not retrievable[row] or (mask >= 0 and not masks[mask, row]):
                continue
            if hidden[1] > hidden[0] and find_row(excluded, hidden[0], hidden[1], row) >= 0:
                continue
            keys[count] = (np.int64(_INT32_MAX - bits[place]) << 32) | row
            count += 1
        chosen = keys[:count]
        if count > k > 0:
            chosen = np.partition(chosen, k - 1)[:k]
        chosen.sort()
        for place in range(min(count, k)):
            out[request, place] = chosen[place] & _INT32_MAX
    return out


@kernel
def _write(
    offsets: Int64Array, rows: Int32Array, scores: FloatArray, asked: Int32Array, columns: Int32Array, out: FloatArray
) -> None:
    """Scores into the columns of `asked` (B, K); `columns` (n,) zeros before and after."""
    for request in range(asked.shape[0]):
        for column in range(asked.shape[1]):
            row = asked[request, column]
            if row >= 0 and columns[row] == 0:
                columns[row] = column + 1
        for place in range(offsets[request], offsets[request + 1]):
            column = columns[rows[place]]
            if column:
                out[request, column - 1] = scores[place]
        for column in range(asked.shape[1]):
            row = asked[request, column]
            if row >= 0 and columns[row] - 1 < column:  # asked twice: as the first time
                out[request, column] = out[request, columns[row] - 1]
        for column in range(asked.shape[1]):
            if asked[request, column] >= 0:
                columns[asked[request, column]] = 0
