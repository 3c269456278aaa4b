"""Item-item neighbours: an item scores the similarity to what the user bought, summed over counts.

Users are the terms that describe an item. Weights as in the library `implicit` (its TFIDFRecommender and
BM25Recommender), which also finds the neighbours; an item is a neighbour of itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from implicit.nearest_neighbours import ItemItemRecommender
from scipy.sparse import coo_array, csr_matrix

from towers.evaluation.baselines import Recommender, RowArray, ScoreArray
from towers.evaluation.metrics import FloatArray, SparseRows
from towers.evaluation.top_columns import NOT_RECOMMENDED
from towers.evaluation.train_log import TrainLog

NEIGHBOUR_COUNT = 200
THREAD_COUNT = 2


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Counts of the users and the similarities that carry them to other items."""

    counts: SparseRows  # CSR (user_count, C)
    similarity: SparseRows  # CSR (C, C), NEIGHBOUR_COUNT to a row

    def scores(self, users: RowArray) -> ScoreArray:
        """Scores (B, C); an item that no bought item is near to is not recommended."""
        dense: ScoreArray = (self.counts[users] @ self.similarity).toarray().astype(np.float32)
        dense[dense <= 0] = NOT_RECOMMENDED
        return dense


def tfidf(log: TrainLog, neighbour_count: int = NEIGHBOUR_COUNT) -> Recommender:
    """Cosine of items under TF-IDF: √count · log(C / (1 + items of the user))."""
    terms = log.counts().tocoo()
    weights = np.sqrt(terms.data) * _inverse_frequency(terms)
    norms = np.sqrt(np.bincount(terms.col, np.square(weights), minlength=terms.shape[1]))  # (C,)
    weights /= np.where(norms > 0, norms, 1.0)[terms.col]
    return _neighbours(log, terms, weights, neighbour_count)


def bm25(
    log: TrainLog, neighbour_count: int = NEIGHBOUR_COUNT, saturation: float = 1.2, length_share: float = 0.75
) -> Recommender:
    """Inner product of items under BM25 (k1 = saturation, b = length_share)."""
    terms = log.counts().tocoo()
    lengths = np.bincount(terms.col, terms.data, minlength=terms.shape[1])  # (C,) events of the item
    norms = 1.0 - length_share + length_share * lengths / lengths.mean()
    tf = terms.data * (saturation + 1.0) / (saturation * norms[terms.col] + terms.data)
    return _neighbours(log, terms, tf * _inverse_frequency(terms), neighbour_count)


def _inverse_frequency(terms: coo_array) -> FloatArray:
    """Per entry of (user_count, C): how much the user tells about an item; nothing when they bought nearly all."""
    item_counts = np.bincount(terms.row, minlength=terms.shape[0])  # (user_count,)
    idf = np.maximum(np.log(terms.shape[1]) - np.log1p(item_counts), 0.0)
    weights: FloatArray = idf[terms.row]
    return weights


def _neighbours(log: TrainLog, terms: coo_array, weights: FloatArray, neighbour_count: int) -> Recommender:
    model = ItemItemRecommender(K=neighbour_count, num_threads=THREAD_COUNT)
    item_terms = csr_matrix((weights, (terms.col, terms.row)), shape=terms.shape[::-1])
    model.fit(item_terms.T.tocsr(), show_progress=False)
    return Recommender(log, Neighbours(log.counts(), model.similarity.tocsr()))
