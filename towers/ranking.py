"""What the ranker reads: one place that assembles its three inputs, for training and for serving alike."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from towers.candidates import SOURCE_BITS, Candidates, ItemTable
from towers.compiled import reordered_kernel
from towers.features.histories import FloatArray, HistoryBatch, Int32Array
from towers.features.pairs import pair_feature_names, pair_features
from towers.features.purchases import Purchases

SOURCE_FEATURES = ("from_two_tower", "from_buy_again", "from_popular", "from_similar")
_OWN_COUNT = 1 + len(SOURCE_FEATURES)


def pair_input_names(attributes: Iterable[str]) -> tuple[str, ...]:
    """The columns of `pair_inputs`, in order."""
    return (*pair_feature_names(attributes), "similarity", *SOURCE_FEATURES)


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
    out = pair_features(batch, purchases, rows, items.affinity, items.affinity_counts, further=_OWN_COUNT)
    _write_own(rows, candidates.sources, user_vectors, items.vectors, out)
    return out


@reordered_kernel
def _write_own(
    rows: Int32Array, sources: NDArray[np.uint8], user_vectors: FloatArray, item_vectors: FloatArray, out: FloatArray
) -> None:
    """The last columns of `out`: similarity and sources."""
    first = out.shape[2] - _OWN_COUNT
    for request in range(rows.shape[0]):
        user = user_vectors[request]
        for column in range(rows.shape[1]):
            if rows[request, column] < 0:
                continue
            item, line = item_vectors[rows[request, column]], out[request, column]
            similarity = np.float32(0)
            for place in range(len(user)):
                similarity += user[place] * item[place]
            line[first] = similarity
            for place in range(len(SOURCE_BITS)):
                line[first + 1 + place] = (sources[request, column] & SOURCE_BITS[place]) != 0
