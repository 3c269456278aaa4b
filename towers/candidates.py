"""Candidates: what the sources bring for each request, with what may not be shown left out and duplicates merged.

Sources: the two towers' nearest items, items bought before, popular items, items like the context's. The same
function finds candidates for the ranker's training and for serving, so the ranker learns from what it will see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.features.purchases import Purchases, find_row
from towers.ordering import BIN_COUNT, by_digits
from towers.retrieval import Allowed
from towers.retrieval import Retriever as Retriever
from towers.settings import CandidateSettings
from towers.sources.base import Asked, CandidateSource

TWO_TOWER, BUY_AGAIN, POPULAR, SIMILAR = 1, 2, 4, 8
SOURCE_BITS = (TWO_TOWER, BUY_AGAIN, POPULAR, SIMILAR)
_SOURCE_BIT_COUNT = 4
_SOURCE_MASK = (1 << _SOURCE_BIT_COUNT) - 1
_INT32_MAX = 2**31 - 1
_NOTHING = np.full((0, 0), -1, np.int64)
_NO_BAR = np.zeros(0, np.bool_)
SourceBits = NDArray[np.uint32]


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
        sources: the further sources by name, as of the same moment.
    """

    vectors: FloatArray
    statistics: FloatArray
    affinity: Int32Array
    affinity_counts: Int64Array
    popular: Int32Array
    retrievable: BoolArray
    sources: Mapping[str, CandidateSource] = field(default_factory=dict)


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
class Brought:
    """One source's answer: `asked` scores any item, `rows` (B, k) are its best ones, best first, -1 pads.

    A source that the placement does not use was not asked: None, and no rows.
    """

    name: str
    asked: Asked | None
    rows: Int32Array


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union of the sources.

    Attributes:
        rows: (B, K) int32 item rows, ascending, each once; -1 pads at the end.
        sources: (B, K) uint32, bits of the sources that brought it.
        further: what each source says whose score the ranker reads, in the order of `CandidateSettings.scored`.
    """

    rows: Int32Array
    sources: SourceBits
    further: tuple[Brought, ...] = ()


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
    allowed: Allowed | None = None,
) -> Candidates:
    """Asks every source and merges their answers.

    Args:
        user_vectors: (B, D) from the user tower.
        purchases: what the B shoppers bought.
        items: the catalogue; a row that is not `retrievable` by now comes from no source.
        retriever: nearest items among the retrievable ones.
        settings: how many items each source brings.
        exclusions: what may not be shown.
        seeds: (B, S) rows of the context items, -1 pads; None when no request has any.
        allowed: what requests with a filter are confined to; None when no request has one. The two towers bring such a
            request as many items as its answer wants, even where `settings` leaves that to popular ones: few may fit.
    """
    excluded = (exclusions.offsets, exclusions.rows)
    retrievable = read_only(items.retrievable)
    groups, barred = purchases.groups, _NO_BAR
    near_count = np.full(len(user_vectors), settings.two_tower, np.int64)
    if allowed is not None:
        near_count = _filling_pages(near_count, allowed, seeds, settings)
        barred = _barred(groups.request, groups.item_row, allowed)
    near = _nearest(user_vectors, settings.two_tower, retriever, exclusions, allowed, near_count)
    bought = _buy_again(
        groups.offsets, groups.item_row, purchases.decayed_slow, retrievable, barred, *excluded, settings.buy_again
    )
    similar, k = _NOTHING, 0
    if seeds is not None and settings.similar:
        similar, k = _similar(seeds, items, settings.similar, retriever, exclusions, allowed), settings.similar
    popular, list_of = _popular_lists(items.popular, allowed, len(user_vectors))
    rows, sources, width = _merge(
        near, near_count, bought, popular, list_of, settings.popular, similar, k, retrievable, *excluded
    )
    return Candidates(np.ascontiguousarray(rows[:, :width]), np.ascontiguousarray(sources[:, :width]))


def read_only(values: NDArray[np.generic]) -> NDArray[Any]:
    """The same memory under one type, whether it is mapped or not, so that kernels are compiled once."""
    view = values.view()
    view.flags.writeable = False
    return view


def _filling_pages(
    near_count: Int64Array, allowed: Allowed, seeds: Int32Array | None, settings: CandidateSettings
) -> Int64Array:
    """(B,) `near_count`, or as many as a filtered answer wants where the items like its seeds are not to fill it."""
    has_seed = (seeds >= 0).any(axis=1) if seeds is not None else np.zeros(len(near_count), np.bool_)
    filled = has_seed & (allowed.wanted <= settings.similar)
    return np.where((allowed.of_request >= 0) & ~filled, np.maximum(near_count, allowed.wanted), near_count)


def _barred(request: Int64Array, item_row: Int32Array, allowed: Allowed) -> BoolArray:
    """(G,) which purchases their request's filter does not allow."""
    barred = np.zeros(len(item_row), np.bool_)
    filter_of = allowed.of_request[request]
    for place, confined in enumerate(allowed.filters):
        mine = filter_of == place
        barred[mine] = ~confined.rows[item_row[mine]]
    return barred


def _popular_lists(
    popular: Int32Array, allowed: Allowed | None, request_count: int
) -> tuple[Int32Array, NDArray[np.intp]]:
    """Lists (1 + F, P) of popular rows, -1 pads: the common one what each filter leaves of it; (B,) whose is which."""
    if allowed is None:
        return read_only(popular[None, :]), np.zeros(request_count, np.int64)
    lists = np.full((1 + len(allowed.filters), len(popular)), -1, np.int32)
    lists[0] = popular
    for line, confined in zip(lists[1:], allowed.filters, strict=True):
        left = popular[confined.rows[popular]]
        line[: len(left)] = left
    return read_only(lists), allowed.of_request + 1


def _nearest(
    vectors: FloatArray,
    k: int,
    retriever: Retriever,
    exclusions: Exclusions,
    allowed: Allowed | None,
    allowed_k: Int64Array | None = None,
) -> Int64Array:
    """(B, depth) nearest items, best first: deepened by what each request excludes, so that k are left where there are.

    Requests of one depth are searched together, and a depth depends on its request alone: a heavy shopper neither slows
    the others of the batch nor, where an approximate index looks further for a larger k, changes their answers.
    """
    if allowed is not None and len(vectors):
        counts = allowed_k if allowed_k is not None else np.full(len(vectors), k, np.int64)
        return _nearest_allowed(vectors, counts, retriever, exclusions, allowed)
    if k == 0 or len(vectors) == 0:
        return np.full((len(vectors), 0), -1, np.int64)
    if len(exclusions.rows) == 0:
        return retriever.search(vectors, k)[1]
    depths = _depths(np.full(len(vectors), k, np.int64), np.minimum(exclusions.count, EXCLUDED_EXTRA_MAX))
    rows = np.full((len(vectors), int(depths.max())), -1, np.int64)
    for depth in np.unique(depths).tolist():
        chosen = np.flatnonzero(depths == depth)
        _, rows[chosen, :depth] = retriever.search(vectors[chosen], depth)
    return rows


def _depths(k: Int64Array, extra: Int64Array) -> Int64Array:
    """(B,) how many to ask for where k (B,) are wanted and `extra` (B,) may be left out: few depths, few searches."""
    wanted = k + extra
    return np.where(extra > 0, 2 ** np.ceil(np.log2(np.maximum(wanted, 1))).astype(np.int64), k)


def _nearest_allowed(
    vectors: FloatArray, k: Int64Array, retriever: Retriever, exclusions: Exclusions, allowed: Allowed
) -> Int64Array:
    """As `_nearest` with k (B,); a request with a filter is deepened by what it excludes of what is allowed alone."""
    extra = np.minimum(exclusions.count, EXCLUDED_EXTRA_MAX)
    request = np.repeat(np.arange(len(vectors)), exclusions.count)
    for place, confined in enumerate(allowed.filters):
        mine = (allowed.of_request[request] == place) & confined.rows[exclusions.rows]
        extra = np.where(allowed.of_request == place, np.bincount(request[mine], minlength=len(vectors)), extra)
    depths = np.where(k > 0, _depths(k, extra), 0)
    rows = np.full((len(vectors), int(depths.max())), -1, np.int64)
    for place, depth in sorted(set(zip(allowed.of_request.tolist(), depths.tolist(), strict=True))):
        if depth:
            chosen = np.flatnonzero((allowed.of_request == place) & (depths == depth))
            asked = retriever if place < 0 else allowed.filters[place].retriever
            _, rows[chosen, :depth] = asked.search(vectors[chosen], depth)
    return rows


def _similar(
    seeds: Int32Array,
    items: ItemTable,
    k: int,
    retriever: Retriever,
    exclusions: Exclusions,
    allowed: Allowed | None,
) -> Int64Array:
    """The nearest items to the mean of each request's seeds."""
    present = seeds >= 0
    mean = (items.vectors[np.maximum(seeds, 0)] * present[:, :, None]).sum(axis=1, dtype=np.float32)  # (B, D)
    near = _nearest(mean, k, retriever, exclusions, allowed)
    return np.where(present.any(axis=1, keepdims=True), near, np.int64(-1))


@kernel
def _buy_again(
    offsets: Int64Array,
    item_row: Int32Array,
    weight: FloatArray,
    retrievable: BoolArray,
    barred: BoolArray,
    excluded_offsets: Int64Array,
    excluded: Int32Array,
    k: int,
) -> Int32Array:
    """(B, k) the k items of highest weight, in any order, -1 pads; of equal ones those of the lowest rows.

    `barred`: as `item_row`, or empty.
    """
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
            if len(barred) and barred[group]:
                continue
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
def _append(
    keys: Int64Array,
    end: int,
    rows: NDArray[np.integer],
    k: int,
    source: int,
    retrievable: BoolArray,
    excluded: Int32Array,
) -> int:
    """Writes the first k rows that may be shown into `keys[end:]`, each with its source; returns the new end."""
    last = end + k
    for row in rows:
        if end == last:
            break
        if row < 0 or not retrievable[row]:
            continue
        if len(excluded) == 0 or find_row(excluded, 0, len(excluded), row) < 0:
            keys[end] = (np.int64(row) << _SOURCE_BIT_COUNT) | source
            end += 1
    return end


@kernel
def _merge(
    near: Int64Array,
    near_count: Int64Array,
    bought: Int32Array,
    popular: Int32Array,
    list_of: Int64Array,
    popular_count: int,
    similar: Int64Array,
    similar_count: int,
    retrievable: BoolArray,
    excluded_offsets: Int64Array,
    excluded: Int32Array,
) -> tuple[Int32Array, SourceBits, int]:
    """The first allowed rows of each source, merged: rows and sources as in `Candidates`, wider than it, and its K.

    `near_count` (B,): how many of `near` each request takes; `list_of` (B,): which line of `popular` is its own.
    """
    request_count, near_most = len(near_count), 0
    for count in near_count:
        near_most = max(near_most, count)
    room = near_most + bought.shape[1] + popular_count + similar_count
    rows = np.full((request_count, room), -1, np.int32)
    sources = np.zeros((request_count, room), np.uint32)
    unordered, spare, bins = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(BIN_COUNT, np.int32)
    width = 0
    for request in range(request_count):
        hidden = excluded[excluded_offsets[request] : excluded_offsets[request + 1]]
        own_popular = popular[list_of[request]]
        end = _append(unordered, 0, near[request], near_count[request], TWO_TOWER, retrievable, hidden)
        end = _append(unordered, end, bought[request], bought.shape[1], BUY_AGAIN, retrievable, hidden)
        end = _append(unordered, end, own_popular, popular_count, POPULAR, retrievable, hidden)
        if similar_count:
            end = _append(unordered, end, similar[request], similar_count, SIMILAR, retrievable, hidden)
        keys = by_digits(unordered, spare, bins, end, _SOURCE_BIT_COUNT)
        filled = 0
        for place in range(end):
            row = keys[place] >> _SOURCE_BIT_COUNT
            if filled == 0 or rows[request, filled - 1] != row:
                rows[request, filled] = row
                filled += 1
            sources[request, filled - 1] |= np.uint32(keys[place] & _SOURCE_MASK)
        width = max(width, filled)
    return rows, sources, width
