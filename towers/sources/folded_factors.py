"""Folded-in factors: the shopper's vector is the one that alternating least squares would give them, solved exactly.

Nothing is kept of a user: whoever did the same is given the same vector, whether or not the fit knew them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel, reordered_kernel
from towers.features.histories import FloatArray, HistoryBatch, Int32Array, Int64Array
from towers.sources.base import SourceInvalid, SourceRequest, checked
from towers.sources.factors import AskedVectors, rows_of
from towers.sources.profiles import Profiles, profile_array, profile_of, profiles
from towers.sources.scored import scratch
from towers.sources.settings import ProfileSettings

DIMENSION_MAX = 128


@dataclass(frozen=True, slots=True)
class FoldIn:
    """How a shopper's events become confidences.

    Attributes:
        confidence: what an item of weight 1 adds to the confidence 1 that every item has.
        counts: whether each event of an item counts by its age in days; else the profile's weight alone.
        profile: which items are read, and their weights.
    """

    confidence: float
    counts: bool
    profile: ProfileSettings

    def own(self, histories: HistoryBatch, item_count: int) -> Profiles:
        """The profiles, with c of each item for its weight."""
        found = profiles(histories, self.profile, item_count)
        weight = found.weight
        if self.counts:
            weight = _with_counts(
                histories.offsets,
                histories.item_row,
                histories.age_days,
                self.profile.half_life_days,
                found.offsets,
                found.item_row,
                weight,
                scratch("newest", item_count, np.float32)[:item_count],
                scratch("counted", item_count, np.float32)[:item_count],
            )
        return Profiles(found.offsets, found.item_row, weight * np.float32(self.confidence))

    def array(self, item_count: int) -> NDArray[np.float64]:
        """As a generation keeps it, with the number of items that it is for."""
        first = [item_count, self.confidence, self.counts]
        return np.concatenate([first, profile_array(self.profile)]).astype(np.float64)

    @classmethod
    def of(cls, array: NDArray[Any], item_count: int) -> Self:
        """From `array(item_count)`. Raises SourceInvalid."""
        if len(array) != 6:
            raise SourceInvalid(f"array fold_in has {len(array)} values, not 6")
        count, confidence, counts = array[:3].tolist()
        if count != item_count:
            raise SourceInvalid(f"array fold_in is for {count:g} items, array items has {item_count}")
        if not (0 < confidence < np.inf and counts in (0, 1)):
            raise SourceInvalid(f"array fold_in holds the confidence {confidence} and the switch {counts}")
        return cls(confidence, bool(counts), profile_of(array[3:]))


@dataclass(frozen=True, slots=True)
class FoldedFactors:
    """A source of item vectors that shoppers are folded into (Hu, Koren, Volinsky 2008, equation 4).

    Attributes:
        items: (n, D) float32 Y, D ≤ 128. gram: (D, D) float32 YᵀY + λI.
        fold_in: what c is made of.
    """

    items: FloatArray
    gram: FloatArray
    fold_in: FoldIn

    @property
    def item_count(self) -> int:
        """n."""
        return len(self.items)

    def ask(self, request: SourceRequest) -> AskedVectors:
        """See `CandidateSource.ask`."""
        own = self.fold_in.own(request.histories, self.item_count)
        vectors = folded(own, self.items, self.gram)
        return AskedVectors(vectors, self.items, np.diff(own.offsets) > 0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `CandidateSource.arrays`."""
        return {"items": self.items, "gram": self.gram, "fold_in": self.fold_in.array(self.item_count)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See `CandidateSource.from_arrays`."""
        wanted = {"items": (np.float32, 2), "gram": (np.float32, 2), "fold_in": (np.float64, 1)}
        items, gram, fold_in = checked(arrays, wanted)
        dimension = items.shape[1]
        if gram.shape != (dimension, dimension) or not 1 <= dimension <= DIMENSION_MAX:
            raise SourceInvalid(
                f"array gram has shape {gram.shape} for items of {dimension} numbers (1 … {DIMENSION_MAX})"
            )
        if not (np.isfinite(items).all() and np.isfinite(gram).all()):
            raise SourceInvalid("array items or gram holds what is no number")
        if np.linalg.eigvalsh(gram.astype(np.float64)).min() <= 0:
            raise SourceInvalid("array gram is not positive definite")
        return cls(items, gram, FoldIn.of(fold_in, len(items)))

    def reordered(self, order: Int32Array, place: Int32Array) -> Self:  # noqa: ARG002
        """See `CandidateSource.reordered`; rows that are no old ones get zeros."""
        return replace(self, items=rows_of(self.items, order))


def folded(own: Profiles, items: FloatArray, gram: FloatArray) -> FloatArray:
    """(B, D) each q of (G + Σ c y yᵀ) q = Σ (1 + c) y over the profile's items, G the gram and c the weights."""
    return _folded(own.offsets, own.item_row, own.weight, items, gram)


@reordered_kernel
def _folded(
    offsets: Int64Array, item_row: Int32Array, confidence: FloatArray, items: FloatArray, gram: FloatArray
) -> FloatArray:
    dimension = items.shape[1]
    out = np.zeros((len(offsets) - 1, dimension), np.float32)
    matrix, side = np.empty((dimension, dimension), np.float64), np.empty(dimension, np.float64)
    for request in range(len(out)):
        if offsets[request] == offsets[request + 1]:
            continue
        matrix[:] = gram
        side[:] = 0
        for place in range(offsets[request], offsets[request + 1]):
            item, weight = items[item_row[place]], np.float64(confidence[place])
            for row in range(dimension):
                factor = weight * item[row]
                side[row] += item[row] + factor
                line = matrix[row]
                for column in range(row + 1):  # the lower triangle is all that is read
                    line[column] += factor * item[column]
        _solve(matrix, side)
        for row in range(dimension):
            out[request, row] = side[row]
    return out


@reordered_kernel
def _solve(matrix: NDArray[np.float64], side: NDArray[np.float64]) -> None:
    """Solves matrix · x = side in place, by Cholesky's L Lᵀ over the lower triangle of a positive definite matrix."""
    count = len(side)
    for row in range(count):
        line = matrix[row]
        for column in range(row + 1):
            above, total = matrix[column], line[column]
            for place in range(column):
                total -= line[place] * above[place]
            line[column] = np.sqrt(total) if row == column else total / above[column]
    for row in range(count):  # L z = side
        line, total = matrix[row], side[row]
        for place in range(row):
            total -= line[place] * side[place]
        side[row] = total / line[row]
    for row in range(count - 1, -1, -1):  # Lᵀ x = z
        line = matrix[row]
        side[row] /= line[row]
        for place in range(row):
            side[place] -= line[place] * side[row]


@kernel
def _with_counts(
    offsets: Int64Array,
    item_row: Int32Array,
    age_days: FloatArray,
    half_life_days: float,
    own_offsets: Int64Array,
    own_row: Int32Array,
    weight: FloatArray,
    newest: FloatArray,
    counted: FloatArray,
) -> FloatArray:
    """Each weight times what the item's events count, the newest 1; `newest`, `counted` (n,) zeros before and after."""
    out = np.empty_like(weight)
    for request in range(len(own_offsets) - 1):
        for event in range(offsets[request + 1] - 1, offsets[request] - 1, -1):
            row = item_row[event]
            if row >= len(counted):
                continue
            if counted[row] == 0:
                newest[row] = age_days[event]
            older_days = age_days[event] - newest[row]
            counted[row] += 0.5 ** (older_days / half_life_days) if half_life_days > 0 else 1.0
        for place in range(own_offsets[request], own_offsets[request + 1]):
            out[place] = weight[place] * counted[own_row[place]]
        for event in range(offsets[request], offsets[request + 1]):
            if item_row[event] < len(counted):
                newest[item_row[event]] = counted[item_row[event]] = 0
    return out
