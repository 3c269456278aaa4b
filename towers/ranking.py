"""What the ranker reads: one place that assembles its three inputs, for training and for serving alike."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from towers.candidates import SOURCE_BITS, Candidates, ItemTable
from towers.features.histories import FloatArray, HistoryBatch
from towers.features.pairs import pair_feature_names, pair_features
from towers.features.purchases import Purchases

SOURCE_FEATURES = ("from_two_tower", "from_buy_again", "from_popular", "from_similar")


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
    features = pair_features(batch, purchases, candidates.rows, items.affinity)
    vectors = items.vectors[np.maximum(candidates.rows, 0)]  # (B, K, D)
    similarity = np.einsum("bkd,bd->bk", vectors, user_vectors)[:, :, None]
    sources = (candidates.sources[:, :, None] & np.array(SOURCE_BITS, np.uint8)) > 0  # (B, K, 4)
    return np.concatenate([features, similarity.astype(np.float32), sources.astype(np.float32)], axis=2)
