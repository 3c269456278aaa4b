"""Factor sources: a request's score of an item is the product of the shopper's vector with the item's.

The shopper's vector is the weighted sum of what each of the own items brings; graph filters of low rank and factorised
item models have this form, and so do vectors that a shop computed itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel, reordered_kernel
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.features.purchases import find_row
from towers.sources.base import Shown, SourceInvalid, SourceRequest, checked
from towers.sources.profiles import Profiles, profile_array, profile_of, profiles
from towers.sources.settings import ProfileSettings


@dataclass(frozen=True, slots=True)
class AskedVectors:
    """The answer of a factor source: the shoppers' vectors (B, D) and the items' (n, D).

    Attributes:
        answers: (B,) whether the source knows anything of the shopper; of others it brings and scores nothing.
    """

    vectors: FloatArray
    items: FloatArray
    answers: BoolArray

    def best(self, k: int, shown: Shown) -> Int32Array:
        """See `Asked.best`; items of a score of 0 or less are not brought."""
        scores = self.vectors @ self.items.T  # (B, n)
        scores[~self.answers] = 0
        return _best(
            scores,
            shown.retrievable,
            shown.excluded_offsets,
            shown.excluded_rows,
            shown.masks,
            shown.mask_of,
            k,
        )

    def write_scores(self, rows: Int32Array, out: FloatArray) -> None:
        """See `Asked.write_scores`."""
        _dot(self.vectors, self.items, self.answers, rows, out)


@dataclass(frozen=True, slots=True)
class ItemFactors:
    """A source of two vectors an item: `brings` (n, D) is added to the shopper's, `items` (n, D) is matched with it."""

    brings: FloatArray
    items: FloatArray
    profile: ProfileSettings

    @property
    def item_count(self) -> int:
        """n."""
        return len(self.items)

    def ask(self, request: SourceRequest) -> AskedVectors:
        """See `CandidateSource.ask`."""
        own = profiles(request.histories, self.profile, self.item_count)
        return AskedVectors(summed(own, self.brings), self.items, np.diff(own.offsets) > 0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `CandidateSource.arrays`."""
        return {"brings": self.brings, "items": self.items, "profile": profile_array(self.profile)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See `CandidateSource.from_arrays`."""
        wanted = {"brings": (np.float32, 2), "items": (np.float32, 2), "profile": (np.float64, 1)}
        brings, items, profile = checked(arrays, wanted)
        if brings.shape != items.shape:
            raise SourceInvalid(f"array brings has shape {brings.shape}, array items {items.shape}")
        if not (np.isfinite(brings).all() and np.isfinite(items).all()):
            raise SourceInvalid("array brings or items holds what is no number")
        return cls(brings, items, profile_of(profile))

    def reordered(self, order: Int32Array, place: Int32Array) -> Self:  # noqa: ARG002
        """See `CandidateSource.reordered`; rows that are no old ones get zeros."""
        return replace(self, brings=rows_of(self.brings, order), items=rows_of(self.items, order))


def rows_of(array: FloatArray, order: Int32Array) -> FloatArray:
    """The rows `order` of the array; zeros for rows that it does not have."""
    known = order < len(array)
    out = np.zeros((len(order), *array.shape[1:]), array.dtype)
    out[known] = array[order[known]]
    return out


def summed(own: Profiles, brings: FloatArray) -> FloatArray:
    """(B, D) the weighted sum of what each profile's items bring."""
    return _summed(own.offsets, own.item_row, own.weight, brings)


@reordered_kernel
def _summed(offsets: Int64Array, item_row: Int32Array, weight: FloatArray, brings: FloatArray) -> FloatArray:
    out = np.zeros((len(offsets) - 1, brings.shape[1]), np.float32)
    for request in range(len(out)):
        line = out[request]
        for place in range(offsets[request], offsets[request + 1]):
            brought, factor = brings[item_row[place]], weight[place]
            for column in range(len(line)):
                line[column] += factor * brought[column]
    return out


@reordered_kernel
def _dot(vectors: FloatArray, items: FloatArray, answers: BoolArray, rows: Int32Array, out: FloatArray) -> None:
    for request in range(rows.shape[0]):
        if not answers[request]:
            continue
        vector = vectors[request]
        for column in range(rows.shape[1]):
            row = rows[request, column]
            if 0 <= row < len(items):
                score, item = np.float32(0), items[row]
                for place in range(len(vector)):
                    score += vector[place] * item[place]
                out[request, column] = max(score, np.float32(0))


@kernel
def _best(
    scores: FloatArray,
    retrievable: BoolArray,
    excluded_offsets: Int64Array,
    excluded: Int32Array,
    masks: BoolArray,
    mask_of: Int64Array,
    k: int,
) -> Int32Array:
    """As `scored._best`, of dense scores (B, n): the k best so far stand in a heap whose first is the least of them."""
    out = np.full((scores.shape[0], k), -1, np.int32)
    heap_score, heap_row = np.empty(k, np.float32), np.empty(k, np.int32)
    for request in range(scores.shape[0]):
        begin, end = excluded_offsets[request], excluded_offsets[request + 1]
        mask, count = mask_of[request], 0
        for row in range(min(scores.shape[1], len(retrievable))):
            score = scores[request, row]
            if score <= 0 or (count == k and (k == 0 or score <= heap_score[0])):
                continue
            if not retrievable[row] or (mask >= 0 and not masks[mask, row]):
                continue
            if end > begin and find_row(excluded, begin, end, row) >= 0:
                continue
            if count < k:
                at = count
                count += 1
                while at > 0 and heap_score[(at - 1) >> 1] >= score:
                    heap_score[at], heap_row[at] = heap_score[(at - 1) >> 1], heap_row[(at - 1) >> 1]
                    at = (at - 1) >> 1
            else:
                at = _sink(heap_score, heap_row, score, row, count)
            heap_score[at], heap_row[at] = score, row
        for place in range(count - 1, -1, -1):
            out[request, place] = heap_row[0]
            score, row = heap_score[place], heap_row[place]
            at = _sink(heap_score, heap_row, score, row, place)
            heap_score[at], heap_row[at] = score, row
    return out


@kernel
def _sink(heap_score: FloatArray, heap_row: Int32Array, score: float, row: int, count: int) -> int:
    """Makes room from the top of a heap of `count` for what comes in; of equal scores higher rows leave first."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= count:
            return at
        other = child + 1
        if other < count and (
            heap_score[other] < heap_score[child]
            or (heap_score[other] == heap_score[child] and heap_row[other] > heap_row[child])
        ):
            child = other
        if heap_score[child] > score or (heap_score[child] == score and heap_row[child] < row):
            return at
        heap_score[at], heap_row[at] = heap_score[child], heap_row[child]
        at = child
