"""Reference · candidates: what each source brings, without what is excluded, merged; in plain numpy."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tests.reference.purchases import Bought
from towers.candidates import (
    BUY_AGAIN,
    EXCLUDED_EXTRA_MAX,
    POPULAR,
    SIMILAR,
    TWO_TOWER,
    Candidates,
    Exclusions,
    ItemTable,
)
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.settings import CandidateSettings

ITEM_COUNT_MAX = 2**31


class NearestItems(Protocol):
    """The generation's index."""

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, Int64Array]:
        """(B, D) → scores and rows (B, k), best first, -1 pads."""
        ...


def find_candidates(
    user_vectors: FloatArray,
    bought: Bought,
    items: ItemTable,
    index: NearestItems,
    settings: CandidateSettings,
    exclusions: Exclusions,
    seeds: Int32Array | None = None,
) -> Candidates:
    """The candidates of B requests with user vectors (B, D); seeds (B, S) are rows of context items, -1 pads."""
    brought = [
        (TWO_TOWER, nearest(user_vectors, settings.two_tower, index, exclusions)),
        (BUY_AGAIN, bought_before(bought, items, settings.buy_again, exclusions)),
        (POPULAR, popular(len(user_vectors), items, settings.popular, exclusions)),
    ]
    if seeds is not None and settings.similar:
        present = seeds >= 0
        mean = (items.vectors[np.maximum(seeds, 0)] * present[:, :, None]).sum(axis=1, dtype=np.float32)  # (B, D)
        near = nearest(mean, settings.similar, index, exclusions)
        brought.append((SIMILAR, np.where(present.any(axis=1, keepdims=True), near, np.int32(-1))))
    return merged(brought)


def excluded(rows: Int32Array, exclusions: Exclusions) -> BoolArray:
    """(B, L) whether a row may not be shown to its request."""
    request = np.arange(len(rows), dtype=np.int64)[:, None]
    return np.isin(request * ITEM_COUNT_MAX + rows, exclusion_keys(exclusions))


def exclusion_keys(exclusions: Exclusions) -> Int64Array:
    """(n,) one number for each excluded row of a request."""
    request = np.repeat(np.arange(len(exclusions.count), dtype=np.int64), exclusions.count)
    return request * ITEM_COUNT_MAX + exclusions.rows


def allowed_first(rows: Int32Array, k: int, exclusions: Exclusions) -> Int32Array:
    """(B, L) best first → (B, k), the first k that may be shown."""
    allowed = (rows >= 0) & ~excluded(rows, exclusions) if len(exclusions.rows) else rows >= 0
    place = np.cumsum(allowed, axis=1) - 1
    request, column = np.nonzero(allowed & (place < k))
    out = np.full((len(rows), k), -1, np.int32)
    out[request, place[request, column]] = rows[request, column]
    return out


def nearest(vectors: FloatArray, k: int, index: NearestItems, exclusions: Exclusions) -> Int32Array:
    """(B, k) nearest rows; whoever excludes some is searched deeper, to a power of two that follows from it alone."""
    if k == 0 or len(vectors) == 0:
        return np.full((len(vectors), 0), -1, np.int32)
    wanted = k + np.minimum(exclusions.count, EXCLUDED_EXTRA_MAX)
    depths = np.where(wanted > k, 2 ** np.ceil(np.log2(wanted)).astype(np.int64), k)
    rows = np.full((len(vectors), int(depths.max())), -1, np.int32)
    for depth in np.unique(depths).tolist():
        chosen = np.flatnonzero(depths == depth)
        _, rows[chosen, :depth] = index.search(vectors[chosen], depth)
    return allowed_first(rows, k, exclusions)


def bought_before(bought: Bought, items: ItemTable, k: int, exclusions: Exclusions) -> Int32Array:
    """(B, k) bought rows, the highest decayed frequency first, equal ones by row."""
    groups = bought.groups
    kept = items.retrievable[groups.item_row]
    if len(exclusions.rows):
        kept &= ~np.isin(groups.request * ITEM_COUNT_MAX + groups.item_row, exclusion_keys(exclusions))
    request, rows, weight = groups.request[kept], groups.item_row[kept], bought.decayed_slow[kept]
    order = np.lexsort((-weight, request))
    request, rows = request[order], rows[order]
    begin = np.searchsorted(request, np.arange(len(bought.total)))
    place = np.arange(len(request)) - begin[request]
    out = np.full((len(bought.total), k), -1, np.int32)
    first = place < k
    out[request[first], place[first]] = rows[first]
    return out


def popular(request_count: int, items: ItemTable, k: int, exclusions: Exclusions) -> Int32Array:
    """(B, k) the most popular rows that may be shown."""
    depth = min(k + int(exclusions.count.max(initial=0)), len(items.popular))
    return allowed_first(np.broadcast_to(items.popular[:depth], (request_count, depth)), k, exclusions)


def merged(brought: list[tuple[int, Int32Array]]) -> Candidates:
    """Each row once, ascending, with the bits of all sources that brought it; pads at the end."""
    rows = np.concatenate([part for _, part in brought], axis=1)  # (B, L)
    bits = np.concatenate([np.full(part.shape, bit, np.uint8) for bit, part in brought], axis=1)
    last = np.iinfo(np.int32).max
    order = np.argsort(np.where(rows < 0, last, rows), axis=1, kind="stable")
    rows, bits = np.take_along_axis(rows, order, axis=1), np.take_along_axis(bits, order, axis=1)
    same = (rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] >= 0)
    for _ in range(len(brought) - 1):  # a row stands once for each source at most: hand the bits to the left
        bits[:, :-1] |= np.where(same, bits[:, 1:], 0).astype(np.uint8)
    rows[:, 1:][same] = -1
    order = np.argsort(rows < 0, axis=1, kind="stable")[:, : int((rows >= 0).sum(axis=1).max(initial=0))]
    return Candidates(np.take_along_axis(rows, order, axis=1), np.take_along_axis(bits, order, axis=1))
