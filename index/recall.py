"""Recall@k of a searcher against exact search, forgiving among equals.

A found item counts when its exact score reaches the k-th best exact score: among items that tie at the border, each is
as good as the other. Recall@k = found items that count / min(k, n), averaged over the queries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from index.searcher import Rows, Scores, Searcher

_TIE_TOLERANCE = 1e-6
"""Two float32 inner products of unit vectors closer than this are equal."""
_QUERIES_PER_PASS = 64
"""Bounds the gathered vectors (64, k, D)."""


def recall_at_k(
    searcher: Searcher,
    vectors: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    exact_scores: Scores,
) -> float:
    """Mean recall@k in [0, 1]; k is the width of `exact_scores`.

    `vectors` (n, D), `queries` (B, D), `exact_scores` (B, k) from exact search. Without queries or items: 1.
    """
    query_count, k = exact_scores.shape
    countable = min(k, len(vectors))
    if query_count == 0 or countable == 0:
        return 1.0
    hits = 0
    for start in range(0, query_count, _QUERIES_PER_PASS):
        part = slice(start, start + _QUERIES_PER_PASS)
        _, rows = searcher.search(queries[part], k)
        kth_scores = exact_scores[part, countable - 1 : countable]  # (b, 1)
        hits += int((_rescore(rows, vectors, queries[part]) >= kth_scores - _TIE_TOLERANCE).sum())
    return float(min(1.0, hits / (query_count * countable)))


def _rescore(rows: Rows, vectors: npt.NDArray[np.float32], queries: npt.NDArray[np.float32]) -> Scores:
    """Exact scores (b, k) of found rows; a searcher's own may be of compressed vectors. -inf where there is no item."""
    gathered = vectors[np.maximum(rows, 0)]  # (b, k, D)
    scores: Scores = np.einsum("bkd,bd->bk", gathered, queries)
    scores[rows < 0] = -np.inf
    return scores
