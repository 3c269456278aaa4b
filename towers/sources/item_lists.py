"""Item → item lists: the score of an item is the weighted sum, over the shopper's items, of what their lists say of it.

What item-based filtering, directed co-occurrence, basket lift, content and closed-form graph filters have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array
from towers.sources.base import SourceInvalid, SourceRequest, checked
from towers.sources.profiles import profile_array, profile_of, profiles
from towers.sources.scored import ScoredItems, scratch
from towers.sources.settings import ProfileSettings


@dataclass(frozen=True, slots=True)
class ItemLists:
    """A source of lists over n items.

    Attributes:
        offsets: (n + 1,) int64; item `i` is followed by `rows[offsets[i]:offsets[i + 1]]`.
        rows: (L,) int32, never the item itself. weights: (L,) float32, above 0.
        profile: how a shopper's items are weighed.
    """

    offsets: Int64Array
    rows: Int32Array
    weights: FloatArray
    profile: ProfileSettings

    @property
    def item_count(self) -> int:
        """n."""
        return len(self.offsets) - 1

    @classmethod
    def of_top(cls, rows: Int32Array, weights: FloatArray, profile: ProfileSettings) -> Self:
        """From (n, K) arrays; places with row -1 or a weight of 0 or less are left out."""
        kept = (rows >= 0) & (weights > 0)
        offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
        return cls(offsets, rows[kept].astype(np.int32), weights[kept].astype(np.float32), profile)

    def ask(self, request: SourceRequest) -> ScoredItems:
        """See `CandidateSource.ask`."""
        own = profiles(request.histories, self.profile, self.item_count)
        sums = scratch("sums", self.item_count, np.float32)
        found = _sum(own.offsets, own.item_row, own.weight, self.offsets, self.rows, self.weights, sums)
        return ScoredItems(*found, self.item_count)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `CandidateSource.arrays`."""
        return {
            "offsets": self.offsets,
            "rows": self.rows,
            "weights": self.weights,
            "profile": profile_array(self.profile),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See `CandidateSource.from_arrays`."""
        wanted = {
            "offsets": (np.int64, 1),
            "rows": (np.int32, 1),
            "weights": (np.float32, 1),
            "profile": (np.float64, 1),
        }
        offsets, rows, weights, profile = checked(arrays, wanted)
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(rows) or (np.diff(offsets) < 0).any():
            raise SourceInvalid(f"array offsets does not cover {len(rows)} places in ascending order")
        if len(rows) != len(weights):
            raise SourceInvalid(f"array weights has {len(weights)} values for {len(rows)} rows")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(offsets) - 1:
            raise SourceInvalid(f"array rows names rows {rows.min()} … {rows.max()} of {len(offsets) - 1}")
        if len(weights) and not (np.isfinite(weights).all() and weights.min() > 0):
            raise SourceInvalid("array weights holds what is not above 0")
        return cls(offsets, rows, weights, profile_of(profile))

    def reordered(self, order: Int32Array, place: Int32Array) -> Self:
        """See `CandidateSource.reordered`; new rows that are no old ones have empty lists."""
        known = order < self.item_count
        old = np.where(known, order, 0)
        sizes = np.where(known, np.diff(self.offsets)[old], 0)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        taken = np.repeat(self.offsets[old] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return replace(
            self, offsets=offsets, rows=place[self.rows[taken]].astype(np.int32), weights=self.weights[taken]
        )


@kernel
def _sum(
    offsets: Int64Array,
    item_row: Int32Array,
    weight: FloatArray,
    list_offsets: Int64Array,
    list_rows: Int32Array,
    list_weights: FloatArray,
    sums: FloatArray,
) -> tuple[Int64Array, Int32Array, FloatArray]:
    """The scored items of each profile; `sums` (n,) zeros before and after."""
    request_count, item_count = len(offsets) - 1, len(list_offsets) - 1
    room = 0
    for request in range(request_count):
        own = 0
        for place in range(offsets[request], offsets[request + 1]):
            own += list_offsets[item_row[place] + 1] - list_offsets[item_row[place]]
        room += min(own, item_count)
    rows, scores = np.empty(room, np.int32), np.empty(room, np.float32)
    out = np.zeros(request_count + 1, np.int64)
    end = 0
    for request in range(request_count):
        begin = end
        for place in range(offsets[request], offsets[request + 1]):
            factor = weight[place]
            for at in range(list_offsets[item_row[place]], list_offsets[item_row[place] + 1]):
                row = list_rows[at]
                if sums[row] == 0:
                    rows[end] = row
                    end += 1
                sums[row] += factor * list_weights[at]
        for place in range(begin, end):
            scores[place] = sums[rows[place]]
            sums[rows[place]] = 0
        out[request + 1] = end
    return out, rows[:end], scores[:end]
