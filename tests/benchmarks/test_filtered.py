from __future__ import annotations

import numpy as np

from index.exact import ExactSearcher
from tests.benchmarks.filtered import SHARES, masks_of, measure_filter, recalls


def unit_vectors(count: int) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(count, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_masks_allow_the_share_that_they_say() -> None:
    vectors = unit_vectors(4_000)
    cluster = np.arange(4_000) % 400
    for share in SHARES.values():
        masks = masks_of(share, vectors, cluster)
        assert {kind: int(mask.sum()) for kind, mask in masks.items()} == dict.fromkeys(masks, round(share * 4_000))
    assert len(np.unique(cluster[masks_of(0.05, vectors, cluster)["clustered"]])) == 20


def test_recall_counts_what_an_exact_search_of_the_allowed_finds() -> None:
    vectors = unit_vectors(200)
    allowed = np.arange(200) % 2 == 0
    order = np.argsort(-(vectors @ vectors[0]))
    best = order[allowed[order]]
    found = np.stack([best[:10], np.concatenate([best[:5], best[50:55]])])
    assert recalls(vectors, vectors[[0, 0]], allowed, found).tolist() == [1.0, 0.5]
    few = np.zeros(200, np.bool_)
    few[best[:3]] = True
    padded = np.concatenate([best[:3], np.full(7, -1)])[None]
    assert recalls(vectors, vectors[:1], few, padded).tolist() == [1.0]


def test_an_exact_searcher_finds_all() -> None:
    vectors = unit_vectors(2_000)
    line = measure_filter("5", "random", ExactSearcher(vectors), vectors, vectors[:32], np.arange(2_000) % 20 == 0)
    assert (line.plan, line.allowed_count, line.recall_at_100, line.recall_at_100_worst) == ("exact", 100, 1.0, 1.0)
    assert {"inside × 1", "exact × 16"} <= set(line.query_us)
