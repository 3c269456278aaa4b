"""Candidates: what the sources bring for each request, with what may not be shown left out and duplicates merged.

Sources: the two towers' nearest items, items bought before, popular items, items like the context's. The same
function finds candidates for the ranker's training and for serving, so the ranker learns from what it will see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.features.purchases import Purchases
from towers.settings import CandidateSettings

TWO_TOWER, BUY_AGAIN, POPULAR, SIMILAR = 1, 2, 4, 8
SOURCE_BITS = (TWO_TOWER, BUY_AGAIN, POPULAR, SIMILAR)


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
        affinity: value codes (n,) of each affinity attribute.
        popular: (m,) retrievable rows, most popular first.
        retrievable: (n,) whether an item may be recommended.
    """

    vectors: FloatArray
    statistics: FloatArray
    affinity: Mapping[str, Int32Array]
    popular: Int32Array
    retrievable: BoolArray


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What may not be shown, for B requests.

    Attributes:
        key: sorted unique request · item_count + row.
        count: (B,) how many rows each request excludes.
        item_count: the factor in `key`.
    """

    key: Int64Array
    count: Int64Array
    item_count: int

    @classmethod
    def of(cls, request: Int64Array, row: NDArray[np.integer], request_count: int, item_count: int) -> Exclusions:
        """From pairs (request, row), in any order, repeats allowed."""
        key = np.unique(request * item_count + row)
        return cls(key, np.bincount(key // item_count, minlength=request_count), item_count)

    def hit(self, rows: NDArray[np.integer]) -> BoolArray:
        """(B, K) whether each row is excluded for its request; -1 pads are not."""
        if len(self.key) == 0:
            return np.zeros(rows.shape, np.bool_)
        key = np.arange(len(rows), dtype=np.int64)[:, None] * self.item_count + rows
        place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        excluded: BoolArray = (self.key[place] == key) & (rows >= 0)
        return excluded


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
    found = [(TWO_TOWER, _nearest(user_vectors, settings.two_tower, retriever, exclusions))]
    found.append((BUY_AGAIN, _buy_again(purchases, items, settings.buy_again, exclusions)))
    found.append((POPULAR, _popular(len(user_vectors), items, settings.popular, exclusions)))
    if seeds is not None and settings.similar:
        found.append((SIMILAR, _similar(seeds, items, settings.similar, retriever, exclusions)))
    return _merge(found)


def _first_allowed(rows: Int32Array, k: int, exclusions: Exclusions) -> Int32Array:
    """(B, L) best first → the first k of each that are not excluded, -1 pads."""
    allowed = (rows >= 0) & ~exclusions.hit(rows)
    place = np.cumsum(allowed, axis=1) - 1
    taken = allowed & (place < k)
    out = np.full((len(rows), k), -1, np.int32)
    request, column = np.nonzero(taken)
    out[request, place[request, column]] = rows[request, column]
    return out


def _nearest(vectors: FloatArray, k: int, retriever: Retriever, exclusions: Exclusions) -> Int32Array:
    """Deepens the search by what each request excludes, so that k items are left wherever so many exist.

    Requests of one depth are searched together, and a depth depends on its request alone: a heavy shopper neither slows
    the others of the batch nor, where an approximate index looks further for a larger k, changes their answers.
    """
    if k == 0 or len(vectors) == 0:
        return np.full((len(vectors), 0), -1, np.int32)
    wanted = k + np.minimum(exclusions.count, EXCLUDED_EXTRA_MAX)
    depths = np.where(wanted > k, 2 ** np.ceil(np.log2(wanted)).astype(np.int64), k)  # few depths, so few searches
    rows = np.full((len(vectors), int(depths.max())), -1, np.int32)
    for depth in np.unique(depths).tolist():
        chosen = np.flatnonzero(depths == depth)
        _, rows[chosen, :depth] = retriever.search(vectors[chosen], depth)
    return _first_allowed(rows, k, exclusions)


def _buy_again(purchases: Purchases, items: ItemTable, k: int, exclusions: Exclusions) -> Int32Array:
    """The k items of highest decayed frequency; equal ones by row."""
    request_count, groups = len(purchases.total), purchases.groups
    out = np.full((request_count, k), -1, np.int32)
    item_row, request = groups.item_row, groups.request
    allowed = items.retrievable[item_row] & ~np.isin(groups.key, exclusions.key)
    item_row, request, weight = item_row[allowed], request[allowed], purchases.decayed_slow[allowed]
    order = np.lexsort((-weight, request))
    request, item_row = request[order], item_row[order]
    begin = np.searchsorted(request, np.arange(request_count))
    place = np.arange(len(request)) - begin[request]
    kept = place < k
    out[request[kept], place[kept]] = item_row[kept]
    return out


def _popular(request_count: int, items: ItemTable, k: int, exclusions: Exclusions) -> Int32Array:
    depth = min(k + int(exclusions.count.max(initial=0)), len(items.popular))
    return _first_allowed(np.broadcast_to(items.popular[:depth], (request_count, depth)), k, exclusions)


def _similar(seeds: Int32Array, items: ItemTable, k: int, retriever: Retriever, exclusions: Exclusions) -> Int32Array:
    """The nearest items to the mean of each request's seeds."""
    present = seeds >= 0
    mean = (items.vectors[np.maximum(seeds, 0)] * present[:, :, None]).sum(axis=1, dtype=np.float32)  # (B, D)
    near = _nearest(mean, k, retriever, exclusions)
    return np.where(present.any(axis=1, keepdims=True), near, np.int32(-1))


def _merge(found: list[tuple[int, Int32Array]]) -> Candidates:
    rows = np.concatenate([part for _, part in found], axis=1)  # (B, L)
    bits = np.concatenate([np.full(part.shape, bit, np.uint8) for bit, part in found], axis=1)
    last = np.iinfo(np.int32).max
    order = np.argsort(np.where(rows < 0, last, rows), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    bits = np.take_along_axis(bits, order, axis=1)
    for _ in range(len(found) - 1):  # an item stands at most once for each source: pass the bits to the left
        same = (rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] >= 0)
        bits[:, :-1] |= np.where(same, bits[:, 1:], 0).astype(np.uint8)
    repeated = np.zeros(rows.shape, np.bool_)
    repeated[:, 1:] = rows[:, 1:] == rows[:, :-1]
    rows = np.where(repeated, -1, rows)
    order = np.argsort(rows < 0, axis=1, kind="stable")  # pads to the end
    width = int((rows >= 0).sum(axis=1).max(initial=0))
    order = order[:, :width]
    return Candidates(np.take_along_axis(rows, order, axis=1), np.take_along_axis(bits, order, axis=1))
