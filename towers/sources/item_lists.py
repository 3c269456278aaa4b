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
        check_offsets("offsets", offsets, len(rows))
        check_rows("rows", rows, len(offsets) - 1)
        check_weights("weights", weights, len(rows))
        return cls(offsets, rows, weights, profile_of(profile))

    def reordered(self, order: Int32Array, place: Int32Array) -> Self:
        """See `CandidateSource.reordered`; new rows that are no old ones have empty lists."""
        offsets, taken = lines_of(self.offsets, order)
        return replace(
            self, offsets=offsets, rows=place[self.rows[taken]].astype(np.int32), weights=self.weights[taken]
        )


def lines_of(offsets: Int64Array, order: Int32Array) -> tuple[Int64Array, Int64Array]:
    """The lines `order` of a CSR, empty where it has no such line: their offsets, and where their values are taken."""
    known = order < len(offsets) - 1
    old = np.where(known, order, 0)
    sizes = np.where(known, np.diff(offsets)[old], 0) if len(offsets) > 1 else np.zeros(len(order), np.int64)
    new = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return new, np.repeat(offsets[old] - new[:-1], sizes) + np.arange(new[-1])


def check_offsets(name: str, offsets: Int64Array, count: int) -> None:
    """Raises SourceInvalid where these are no offsets of lines over `count` values."""
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        raise SourceInvalid(f"array {name} does not cover {count} places in ascending order")


def check_rows(name: str, rows: Int32Array, row_count: int) -> None:
    """Raises SourceInvalid where a row is not below `row_count`."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < row_count:
        raise SourceInvalid(f"array {name} names rows {rows.min()} … {rows.max()} of {row_count}")


def check_weights(name: str, weights: FloatArray, count: int) -> None:
    """Raises SourceInvalid where these are not `count` numbers above 0."""
    if len(weights) != count:
        raise SourceInvalid(f"array {name} has {len(weights)} values for {count} rows")
    if len(weights) and not (np.isfinite(weights).all() and weights.min() > 0):
        raise SourceInvalid(f"array {name} holds what is not above 0")


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
                row, counts = list_rows[at], factor * list_weights[at]
                if counts == 0:  # too small a number
                    continue
                if sums[row] == 0:
                    rows[end] = row
                    end += 1
                sums[row] += counts
        for place in range(begin, end):
            scores[place] = sums[rows[place]]
            sums[rows[place]] = 0
        out[request + 1] = end
    return out, rows[:end], scores[:end]
