"""What the ranker reads: one place that assembles its three inputs, for training and for serving alike."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from towers.candidates import SOURCE_BITS, Brought, Candidates, ItemTable, SourceBits
from towers.compiled import kernel, reordered_kernel
from towers.features.histories import FloatArray, HistoryBatch, Int32Array
from towers.features.pairs import pair_feature_names, pair_features
from towers.features.purchases import Purchases
from towers.prefetch import AHEAD, prefetch
from towers.sources.scored import scratch

SOURCE_FEATURES = ("from_two_tower", "from_buy_again", "from_popular", "from_similar")
_OWN_COUNT = 1 + len(SOURCE_FEATURES)
FURTHER_FEATURES = ("log_score", "share_of_best", "reciprocal_rank", "brought")
_FURTHER_COUNT = len(FURTHER_FEATURES)


def pair_input_names(attributes: Iterable[str], further: Iterable[str] = ()) -> tuple[str, ...]:
    """The columns of `pair_inputs`, in order; `further` names the sources of `Candidates.further`."""
    of_sources = (f"{name}_{part}" for name in further for part in FURTHER_FEATURES)
    return (*pair_feature_names(attributes), "similarity", *SOURCE_FEATURES, *of_sources)


def request_inputs(user_vectors: FloatArray, request_features: FloatArray) -> FloatArray:
    """(B, D), (B, R) → (B, D + R)."""
    return np.concatenate([user_vectors, request_features], axis=1)


def item_inputs(items: ItemTable) -> FloatArray:
    """(n, D + S): vectors and statistics of all items."""
    return np.concatenate([items.vectors, items.statistics], axis=1)


def pair_inputs(
    batch: HistoryBatch,
    purchases: Purchases,
    candidates: Candidates,
    user_vectors: FloatArray,
    items: ItemTable,
) -> FloatArray:
    """(B, K, P): user × item features, retrieval score and sources of each candidate."""
    rows = candidates.rows
    column_count = _OWN_COUNT + _FURTHER_COUNT * len(candidates.further)
    out = pair_features(batch, purchases, rows, items.affinity, items.affinity_counts, items.statistics, column_count)
    first = out.shape[2] - column_count
    _write_own(rows, candidates.sources, user_vectors, items.vectors, first, out)
    for place, brought in enumerate(candidates.further):
        if brought.asked is not None:
            _write_further(rows, brought, first + _OWN_COUNT + place * _FURTHER_COUNT, out)
    return out


def _write_further(rows: Int32Array, brought: Brought, first: int, out: FloatArray) -> None:
    """The columns FURTHER_FEATURES of one source, from column `first` on."""
    assert brought.asked is not None
    scores = np.zeros(rows.shape, np.float32)
    brought.asked.write_scores(rows, scores)
    best = np.zeros((len(rows), 1), np.float32)
    if brought.rows.shape[1]:
        brought.asked.write_scores(np.ascontiguousarray(brought.rows[:, :1]), best)
    places = scratch("columns", int(max(rows.max(initial=0), brought.rows.max(initial=0))) + 1, np.int32)
    _write_source(rows, scores, best, brought.rows, places, first, out)


@reordered_kernel
def _write_own(
    rows: Int32Array,
    sources: SourceBits,
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    first: int,
    out: FloatArray,
) -> None:
    """The columns of `out` from `first` on: similarity and sources."""
    for request in range(rows.shape[0]):
        user = user_vectors[request]
        for column in range(min(AHEAD, rows.shape[1])):
            prefetch(item_vectors, rows[request, column])
        for column in range(rows.shape[1]):
            if column + AHEAD < rows.shape[1]:
                prefetch(item_vectors, rows[request, column + AHEAD])
            if rows[request, column] < 0:
                continue
            item, line = item_vectors[rows[request, column]], out[request, column]
            similarity = np.float32(0)
            for place in range(len(user)):
                similarity += user[place] * item[place]
            line[first] = similarity
            for place in range(len(SOURCE_BITS)):
                line[first + 1 + place] = (sources[request, column] & SOURCE_BITS[place]) != 0


@kernel
def _write_source(
    rows: Int32Array,
    scores: FloatArray,
    best: FloatArray,
    brought: Int32Array,
    places: Int32Array,
    first: int,
    out: FloatArray,
) -> None:
    """`scores` (B, K) of `rows`, `best` (B, 1) of the first of `brought` (B, k); `places` (n,): zeros, as after."""
    for request in range(rows.shape[0]):
        for place in range(brought.shape[1]):
            if brought[request, place] >= 0:
                places[brought[request, place]] = place + 1
        highest = best[request, 0]
        for column in range(rows.shape[1]):
            row = rows[request, column]
            if row < 0:
                continue
            line, score = out[request, column], scores[request, column]
            line[first] = np.log1p(score)
            if highest > 0:
                line[first + 1] = min(score / highest, np.float32(1))
            if places[row]:
                line[first + 2] = np.float32(1) / np.float32(places[row])
                line[first + 3] = 1
        for place in range(brought.shape[1]):
            if brought[request, place] >= 0:
                places[brought[request, place]] = 0
