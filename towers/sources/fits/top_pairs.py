"""The k best partners of each item, from counts of pairs that are made one item at a time: memory stays at n × k."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from towers.compiled import kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array

_INT32_MAX = 2**31 - 1
Float64Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairScale:
    """What a count c of the pair (i, j) is worth: (c − level_i · level_j) / (left_i · right_j + shrinkage).

    Attributes:
        level: (n,) the root of what chance alone would count. left, right: (n,) above 0.
    """

    level: Float64Array
    left: Float64Array
    right: Float64Array
    shrinkage: float = 0.0

    @classmethod
    def of(cls, left: NDArray[np.floating], right: NDArray[np.floating], shrinkage: float = 0.0) -> PairScale:
        """Without a level; what is 0 counts as 1, since it has no pairs."""
        above = [np.where(side > 0, side, 1.0).astype(np.float64) for side in (left, right)]
        return cls(np.zeros(len(left)), above[0], above[1], shrinkage)


def top_of_product(left: csr_matrix, right: csr_matrix, k: int, scale: PairScale) -> tuple[Int32Array, FloatArray]:
    """(n, k) columns and worths of the k best in each row of left @ right, without its diagonal, best first.

    left is (n, F), right (F, n). Worths of 0 or less are left out: -1 and 0 pad; of equal ones the lowest columns.
    """
    return _top_of_product(*_parts(left), *_parts(right), scale.level, scale.left, scale.right, scale.shrinkage, k)


def _parts(matrix: csr_matrix) -> tuple[Int64Array, Int32Array, FloatArray]:
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32)


@kernel
def _top_of_product(
    left_offsets: Int64Array,
    left_columns: Int32Array,
    left_values: FloatArray,
    right_offsets: Int64Array,
    right_columns: Int32Array,
    right_values: FloatArray,
    level: Float64Array,
    scale_left: Float64Array,
    scale_right: Float64Array,
    shrinkage: float,
    k: int,
) -> tuple[Int32Array, FloatArray]:
    count = len(left_offsets) - 1
    rows, worths = np.full((count, k), -1, np.int32), np.zeros((count, k), np.float32)
    sums, touched = np.zeros(count, np.float64), np.empty(count, np.int32)
    for item in range(count):
        end = 0
        for at in range(left_offsets[item], left_offsets[item + 1]):
            between, value = left_columns[at], left_values[at]
            for place in range(right_offsets[between], right_offsets[between + 1]):
                other, counts = right_columns[place], np.float64(value) * right_values[place]
                if counts <= 0:
                    continue
                if sums[other] == 0:
                    touched[end] = other
                    end += 1
                sums[other] += counts
        write_top(item, sums, touched[:end], level, scale_left, scale_right, shrinkage, rows[item], worths[item])
    return rows, worths


@kernel
def write_top(
    item: int,
    sums: Float64Array,
    touched: Int32Array,
    level: Float64Array,
    scale_left: Float64Array,
    scale_right: Float64Array,
    shrinkage: float,
    rows: Int32Array,
    worths: FloatArray,
) -> None:
    """The best of `touched`, by what their `sums` are worth beside `item`; leaves the sums zero."""
    k = len(rows)
    worth = np.empty(len(touched), np.float32)
    bits = worth.view(np.int32)  # of numbers above 0 these ascend as the numbers do
    keys = np.empty(len(touched), np.int64)
    count = 0
    for other in touched:
        above = sums[other] - level[item] * level[other]
        sums[other] = 0
        worth[count] = above / (scale_left[item] * scale_right[other] + shrinkage)
        if other != item and worth[count] > 0:
            keys[count] = (np.int64(_INT32_MAX - bits[count]) << 32) | other
            count += 1
    best = keys[:count]
    if count > k:
        best = np.partition(best, k - 1)[:k]
    best.sort()
    for place in range(len(best)):
        rows[place] = best[place] & _INT32_MAX
        bits[0] = _INT32_MAX - (best[place] >> 32)
        worths[place] = worth[0]
