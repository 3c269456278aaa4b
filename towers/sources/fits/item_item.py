"""Item-based collaborative filtering (Sarwar et al. 2001): items that the same users had to do with are alike."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, diags

from towers.features.histories import FloatArray, Int32Array
from towers.sources.item_lists import ItemLists
from towers.sources.log import SourceLog
from towers.sources.settings import ItemItemSettings

_ROWS_AT_ONCE = 2_048


def fit_item_item(log: SourceLog, settings: ItemItemSettings) -> ItemLists:
    """The `neighbours` most similar items of each."""
    matrix = log.distinct()
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    scaled = (matrix @ diags(1 / np.maximum(norms, 1e-12))).tocsr()
    rows, weights = top_of_product(scaled.T.tocsr(), scaled, settings.neighbours)
    return ItemLists.of_top(rows, weights, settings.profile)


def top_of_product(left: csr_matrix, right: csr_matrix, k: int) -> tuple[Int32Array, FloatArray]:
    """(n, k) columns and values of the k largest in each row of left @ right, without its diagonal; -1 and 0 pad."""
    count = left.shape[0]
    rows, weights = np.full((count, k), -1, np.int32), np.zeros((count, k), np.float32)
    for begin in range(0, count, _ROWS_AT_ONCE):
        product = (left[begin : begin + _ROWS_AT_ONCE] @ right).tocsr()
        for place in range(product.shape[0]):
            span = slice(product.indptr[place], product.indptr[place + 1])
            columns, values = product.indices[span], product.data[span]
            other = columns != begin + place
            columns, values = columns[other], values[other]
            if len(columns) > k:
                chosen = np.argpartition(-values, k - 1)[:k]
                columns, values = columns[chosen], values[chosen]
            order = np.lexsort((columns, -values))
            rows[begin + place, : len(order)], weights[begin + place, : len(order)] = columns[order], values[order]
    return rows, weights
