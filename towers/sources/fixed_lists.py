"""Fixed lists: the same scored items for everyone, or for everyone of one segment of users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array
from towers.sources.base import SourceInvalid, SourceRequest, checked
from towers.sources.item_lists import check_offsets, check_rows, check_weights
from towers.sources.scored import ScoredItems


@dataclass(frozen=True, slots=True)
class FixedLists:
    """List 0 is everyone's; list 1 + s is that of segment s, the users whose codes in `columns` are `codes[s]`.

    Attributes:
        offsets: (1 + S + 1,) int64. rows: (L,) int32. weights: (L,) float32, above 0; each row once in a list.
        columns: (C,) int64, places among the users' attributes. codes: (S, C) int32, each line once, ascending.
        count: (1,) int64, n items.
    """

    offsets: Int64Array
    rows: Int32Array
    weights: FloatArray
    columns: Int64Array
    codes: Int32Array
    count: Int64Array

    @classmethod
    def of_top(
        cls, rows: Int32Array, weights: FloatArray, item_count: int, columns: Int64Array, codes: Int32Array
    ) -> Self:
        """From (1 + S, K) arrays; places with row -1 or a weight of 0 or less are left out."""
        kept = (rows >= 0) & (weights > 0)
        offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
        chosen = rows[kept].astype(np.int32), weights[kept].astype(np.float32)
        return cls(offsets, *chosen, columns, codes.astype(np.int32), np.array([item_count], np.int64))

    @classmethod
    def of_everyone(cls, rows: Int32Array, weights: FloatArray, item_count: int) -> Self:
        """One list (K,) for all."""
        return cls.of_top(rows[None], weights[None], item_count, np.zeros(0, np.int64), np.zeros((0, 0), np.int32))

    @property
    def item_count(self) -> int:
        """n."""
        return int(self.count[0])

    def ask(self, request: SourceRequest) -> ScoredItems:
        """See `CandidateSource.ask`."""
        list_of = np.zeros(len(request.histories), np.int64)
        if len(self.codes):
            list_of = _list_of(request.attribute, self.columns, self.codes)
        return ScoredItems(*_copies(list_of, self.offsets, self.rows, self.weights), self.item_count)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `CandidateSource.arrays`."""
        return {
            "offsets": self.offsets,
            "rows": self.rows,
            "weights": self.weights,
            "columns": self.columns,
            "codes": self.codes,
            "count": self.count,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See `CandidateSource.from_arrays`."""
        wanted = {
            "offsets": (np.int64, 1),
            "rows": (np.int32, 1),
            "weights": (np.float32, 1),
            "columns": (np.int64, 1),
            "codes": (np.int32, 2),
            "count": (np.int64, 1),
        }
        offsets, rows, weights, columns, codes, count = checked(arrays, wanted)
        if len(count) != 1 or count[0] < 0:
            raise SourceInvalid(f"array count is {count.tolist()}, not one number of items")
        if codes.shape[1] != len(columns) or len(offsets) != len(codes) + 2:
            raise SourceInvalid(
                f"array codes has shape {codes.shape} for {len(columns)} columns, {len(offsets)} offsets"
            )
        if len(columns) and columns.min() < 0:
            raise SourceInvalid(f"array columns holds {columns.min()}")
        check_offsets("offsets", offsets, len(rows))
        check_rows("rows", rows, int(count[0]))
        check_weights("weights", weights, len(rows))
        if codes.min(initial=1) < 1:
            raise SourceInvalid(f"array codes holds {codes.min()}: no code of a known value")
        if len(codes) and not (len(columns) and np.array_equal(np.unique(codes, axis=0), codes)):
            raise SourceInvalid("array codes is not ascending, each line once")
        lists = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        if len(np.unique(lists * max(int(count[0]), 1) + rows)) != len(rows):
            raise SourceInvalid("array rows names a row twice in a list")
        return cls(offsets, rows, weights, columns, codes, count)

    def reordered(self, order: Int32Array, place: Int32Array) -> Self:
        """See `CandidateSource.reordered`."""
        return replace(self, rows=place[self.rows].astype(np.int32), count=np.array([len(order)], np.int64))


def best_of(score: NDArray[np.float64], depth: int) -> tuple[Int32Array, FloatArray]:
    """(depth,) the rows of highest score (n,) and their scores, best first; of equal ones the lowest; -1 and 0 pad."""
    rows, weights = np.full(depth, -1, np.int32), np.zeros(depth, np.float32)
    best = np.argsort(-score, kind="stable")[:depth]
    rows[: len(best)], weights[: len(best)] = best, score[best]
    return rows, weights


@kernel
def _list_of(attribute: Int32Array, columns: Int64Array, codes: Int32Array) -> Int64Array:
    """(B,) which list each request has: 1 + the line of `codes` that is its own, 0 where none is."""
    out = np.zeros(len(attribute), np.int64)
    for request in range(len(attribute)):
        low, high = 0, len(codes)
        while low < high:
            middle, less, same = (low + high) >> 1, False, True
            for at in range(len(columns)):
                column = columns[at]
                own = attribute[request, column] if column < attribute.shape[1] else 0
                if codes[middle, at] != own:
                    less, same = codes[middle, at] < own, False
                    break
            if same:
                out[request] = middle + 1
                break
            if less:
                low = middle + 1
            else:
                high = middle
    return out


@kernel
def _copies(
    list_of: Int64Array, list_offsets: Int64Array, list_rows: Int32Array, list_weights: FloatArray
) -> tuple[Int64Array, Int32Array, FloatArray]:
    """Each request's list."""
    offsets = np.zeros(len(list_of) + 1, np.int64)
    for request in range(len(list_of)):
        size = list_offsets[list_of[request] + 1] - list_offsets[list_of[request]]
        offsets[request + 1] = offsets[request] + size
    rows, scores = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
    for request in range(len(list_of)):
        begin = list_offsets[list_of[request]]
        for place in range(offsets[request], offsets[request + 1]):
            rows[place] = list_rows[begin + place - offsets[request]]
            scores[place] = list_weights[begin + place - offsets[request]]
    return offsets, rows, scores
