"""Exact search by a full sort in float64: the oracle of everything that retrieves."""

from __future__ import annotations

import numpy as np

from towers.candidates import ItemTable
from towers.features.histories import FloatArray, Int64Array


class SortingRetriever:
    """All retrievable items by inner product, equal ones by row."""

    def __init__(self, items: ItemTable) -> None:
        self._rows = np.flatnonzero(items.retrievable)
        self._vectors = items.vectors[self._rows].astype(np.float64)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, Int64Array]:
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries.astype(np.float64)):
            all_scores = (self._vectors * query).sum(axis=1)
            order = np.argsort(-all_scores, kind="stable")[:k]
            rows[place, : len(order)], scores[place, : len(order)] = self._rows[order], all_scores[order]
        return scores, rows
