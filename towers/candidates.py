"""Candidates: what the sources bring for each request, with what may not be shown left out and duplicates merged.

Sources: the two towers' nearest items, items bought before, popular items, items like the context's. The same
function finds candidates for the ranker's training and for serving, so the ranker learns from what it will see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.features.purchases import Purchases, find_row
from towers.settings import CandidateSettings

TWO_TOWER, BUY_AGAIN, POPULAR, SIMILAR = 1, 2, 4, 8
SOURCE_BITS = (TWO_TOWER, BUY_AGAIN, POPULAR, SIMILAR)
_SOURCE_BIT_COUNT = 4
_SOURCE_MASK = (1 << _SOURCE_BIT_COUNT) - 1
_INT32_MAX = 2**31 - 1
_NOTHING = np.full((0, 0), -1, np.int64)


class Retriever(Protocol):
    """Nearest items by inner product; training and serving hand in their own."""

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, Int64Array]:
        """(B, D) → scores (B, k) descending and item rows (B, k), -1 pads."""
        ...


@dataclass(frozen=True, slots=True)
class ItemTable:
    """What retrieval and ranking know of n items as of one moment.

    Attributes:
        vectors: (n, D) float32 unit vectors.
        statistics: (n, S) float32, as `ItemStatistics.values`.
        affinity: (n, A) value codes of the affinity attributes, in the order of the settings.
        affinity_counts: (A,) int64, codes of attribute a are below affinity_counts[a].
        popular: (m,) retrievable rows, most popular first.
        retrievable: (n,) whether an item may be recommended.
    """

    vectors: FloatArray
    statistics: FloatArray
    affinity: Int32Array
    affinity_counts: Int64Array
    popular: Int32Array
    retrievable: BoolArray


def code_counts(codes: Int32Array) -> Int64Array:
    """(A,) one above the highest code of each column of (n, A)."""
    counts: Int64Array = codes.max(axis=0, initial=0).astype(np.int64) + 1
    return counts


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What may not be shown, for B requests.

    Attributes:
        offsets: (B + 1,) where each request's rows begin. rows: ascending within a request, each once.
    """

    offsets: Int64Array
    rows: Int32Array

    @classmethod
    def of(cls, request: Int64Array, row: NDArray[np.integer], request_count: int) -> Exclusions:
        """From pairs (request, row), in any order, repeats allowed."""
        if len(row) == 0:
            return cls(np.zeros(request_count + 1, np.int64), np.zeros(0, np.int32))
        pairs = np.unique(np.stack([request, row.astype(np.int64)], axis=1), axis=0)
        offsets = np.searchsorted(pairs[:, 0], np.arange(request_count + 1))
        return cls(offsets.astype(np.int64), pairs[:, 1].astype(np.int32))

    @property
    def count(self) -> Int64Array:
        """(B,) how many rows each request excludes."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union of the sources.

    Attributes:
        rows: (B, K) int32 item rows, ascending, each once; -1 pads at the end.
        sources: (B, K) uint8, bits of the sources that brought it.
    """

    rows: Int32Array
    sources: NDArray[np.uint8]


EXCLUDED_EXTRA_MAX = 2_000
"""How many excluded items a nearest-neighbour search is deepened for; a shopper who bought more may get fewer."""


def find_candidates(
    user_vectors: FloatArray,
    purchases: Purchases,
    items: ItemTable,
    retriever: Retriever,
    settings: CandidateSettings,
    exclusions: Exclusions,
    seeds: Int32Array | None = None,
) -> Candidates:
    """Asks every source and merges their answers.

    Args:
        user_vectors: (B, D) from the user tower.
        purchases: what the B shoppers bought.
        items: the catalogue.
        retriever: nearest items among the retrievable ones.
        settings: how many items each source brings.
        exclusions: what may not be shown.
        seeds: (B, S) rows of the context items, -1 pads; None when no request has any.
    """
    excluded = (exclusions.offsets, exclusions.rows)
    groups = purchases.groups
    near = _nearest(user_vectors, settings.two_tower, retriever, exclusions)
    bought = _buy_again(
        groups.offsets, groups.item_row, purchases.decayed_slow, items.retrievable, *excluded, settings.buy_again
    )
    similar, k = _NOTHING, 0
    if seeds is not None and settings.similar:
        similar, k = _similar(seeds, items, settings.similar, retriever, exclusions), settings.similar
    popular = items.popular[items.retrievable[items.popular]]  # a live catalogue takes items away
    popular = popular[: settings.popular + int(exclusions.count.max(initial=0))]
    rows, sources, width = _merge(
        near, settings.two_tower, bought, popular, settings.popular, similar, k, *excluded, len(user_vectors)
    )
    return Candidates(np.ascontiguousarray(rows[:, :width]), np.ascontiguousarray(sources[:, :width]))


def _nearest(vectors: FloatArray, k: int, retriever: Retriever, exclusions: Exclusions) -> Int64Array:
    """(B, depth) nearest items, best first: deepened by what each request excludes, so that k are left where there are.

    Requests of one depth are searched together, and a depth depends on its request alone: a heavy shopper neither slows
    the others of the batch nor, where an approximate index looks further for a larger k, changes their answers.
    """
    if k == 0 or len(vectors) == 0:
        return np.full((len(vectors), 0), -1, np.int64)
    if len(exclusions.rows) == 0:
        return retriever.search(vectors, k)[1]
    wanted = k + np.minimum(exclusions.count, EXCLUDED_EXTRA_MAX)
    depths = np.where(wanted > k, 2 ** np.ceil(np.log2(wanted)).astype(np.int64), k)  # few depths, so few searches
    rows = np.full((len(vectors), int(depths.max())), -1, np.int64)
    for depth in np.unique(depths).tolist():
        chosen = np.flatnonzero(depths == depth)
        _, rows[chosen, :depth] = retriever.search(vectors[chosen], depth)
    return rows


def _similar(seeds: Int32Array, items: ItemTable, k: int, retriever: Retriever, exclusions: Exclusions) -> Int64Array:
    """The nearest items to the mean of each request's seeds."""
    present = seeds >= 0
    mean = (items.vectors[np.maximum(seeds, 0)] * present[:, :, None]).sum(axis=1, dtype=np.float32)  # (B, D)
    near = _nearest(mean, k, retriever, exclusions)
    return np.where(present.any(axis=1, keepdims=True), near, np.int64(-1))


@kernel
def _buy_again(
    offsets: Int64Array,
    item_row: Int32Array,
    weight: FloatArray,
    retrievable: BoolArray,
    excluded_offsets: Int64Array,
    excluded: Int32Array,
    k: int,
) -> Int32Array:
    """(B, k) the k items of highest weight, in any order, -1 pads; of equal ones those of the lowest rows."""
    request_count = len(offsets) - 1
    out = np.full((request_count, k), -1, np.int32)
    bits = weight.view(np.int32)  # of numbers that are not negative, these ascend as the numbers do
    for request in range(request_count):
        begin, end = offsets[request], offsets[request + 1]
        hidden = (excluded_offsets[request], excluded_offsets[request + 1])
        allowed = np.empty(end - begin, np.int64)
        count = 0
        for group in range(begin, end):
            row = item_row[group]
            if retrievable[row] and find_row(excluded, *hidden, row) < 0:
                allowed[count] = (np.int64(_INT32_MAX - bits[group]) << 32) | row
                count += 1
        best = allowed[:count]
        if count > k > 0:
            best = np.partition(best, k - 1)
        for place in range(min(count, k)):
            out[request, place] = best[place] & _INT32_MAX
    return out


@kernel
def _append(keys: Int64Array, end: int, rows: NDArray[np.integer], k: int, source: int, excluded: Int32Array) -> int:
    """Writes the first k rows that are not excluded into `keys[end:]`, each with its source; returns the new end."""
    last = end + k
    for row in rows:
        if end == last:
            break
        if row >= 0 and (len(excluded) == 0 or find_row(excluded, 0, len(excluded), row) < 0):
            keys[end] = (np.int64(row) << _SOURCE_BIT_COUNT) | source
            end += 1
    return end


@kernel
def _merge(
    near: Int64Array,
    near_count: int,
    bought: Int32Array,
    popular: Int32Array,
    popular_count: int,
    similar: Int64Array,
    similar_count: int,
    excluded_offsets: Int64Array,
    excluded: Int32Array,
    request_count: int,
) -> tuple[Int32Array, NDArray[np.uint8], int]:
    """The first allowed rows of each source, merged: rows and sources as in `Candidates`, wider than it, and its K."""
    room = near_count + bought.shape[1] + popular_count + similar_count
    rows = np.full((request_count, room), -1, np.int32)
    sources = np.zeros((request_count, room), np.uint8)
    keys = np.empty(room, np.int64)
    width = 0
    for request in range(request_count):
        hidden = excluded[excluded_offsets[request] : excluded_offsets[request + 1]]
        end = _append(keys, 0, near[request], near_count, TWO_TOWER, hidden)
        end = _append(keys, end, bought[request], bought.shape[1], BUY_AGAIN, hidden)
        end = _append(keys, end, popular, popular_count, POPULAR, hidden)
        if similar_count:
            end = _append(keys, end, similar[request], similar_count, SIMILAR, hidden)
        keys[:end].sort()
        filled = 0
        for place in range(end):
            row = keys[place] >> _SOURCE_BIT_COUNT
            if filled == 0 or rows[request, filled - 1] != row:
                rows[request, filled] = row
                filled += 1
            sources[request, filled - 1] |= np.uint8(keys[place] & _SOURCE_MASK)
        width = max(width, filled)
    return rows, sources, width
