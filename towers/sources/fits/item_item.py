"""Item-based collaborative filtering (Sarwar et al. 2001): items that the same users had to do with are alike."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, diags

from towers.sources.fits.top_pairs import Float64Array, PairScale, top_of_product
from towers.sources.item_lists import ItemLists
from towers.sources.log import SourceLog
from towers.sources.settings import ItemItemSettings


def fit_item_item(log: SourceLog, settings: ItemItemSettings) -> ItemLists:
    """The `neighbours` most similar items of each."""
    matrix = _weighted(log, settings)  # (U, n)
    scale = _scale(matrix, settings)
    rows, weights = top_of_product(matrix.T.tocsr(), matrix, settings.neighbours, scale)
    return ItemLists.of_top(rows, weights**settings.power, settings.profile)


def _weighted(log: SourceLog, settings: ItemItemSettings) -> csr_matrix:
    """(U, n) what each item's column says of each user."""
    if settings.similarity in ("cosine", "pearson"):
        return log.distinct()
    counts = log.matrix()
    items_of_user = np.diff(counts.indptr)
    rarity = np.log(log.item_count) - np.log1p(items_of_user)  # users of few items tell more
    if settings.similarity == "tfidf":
        counts.data = np.sqrt(counts.data)
    else:
        saturation, length_share = settings.bm25_saturation, settings.bm25_length_share
        length = _column_sums(counts)
        norm = 1 - length_share + length_share * length / max(length.mean(), 1e-12)
        counts.data *= (saturation + 1) / (saturation * norm[counts.indices] + counts.data)
    return (diags(np.maximum(rarity, 0)) @ counts).tocsr().astype(np.float32)


def _scale(matrix: csr_matrix, settings: ItemItemSettings) -> PairScale:
    """Of cosine and tf-idf the columns' lengths, of Pearson their deviations; BM25 is a plain product (Lucene's)."""
    square = _column_sums(matrix.multiply(matrix).tocsr())
    left, right = settings.asymmetry, 1 - settings.asymmetry  # Aiolli 2013: what the two lengths count
    if settings.similarity == "bm25":
        return PairScale.of(np.ones_like(square), np.ones_like(square), settings.shrinkage)
    if settings.similarity == "pearson":
        level = square / np.sqrt(max(matrix.shape[0], 1))
        deviation = np.maximum(square - level**2, 1e-12)
        return PairScale(level, deviation**left, deviation**right, settings.shrinkage)
    return PairScale.of(square**left, square**right, settings.shrinkage)


def _column_sums(matrix: csr_matrix) -> Float64Array:
    return np.bincount(matrix.indices, matrix.data, minlength=matrix.shape[1]).astype(np.float64)
