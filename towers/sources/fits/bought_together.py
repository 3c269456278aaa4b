"""Basket lift: items that users take at the same time more often than chance would have it."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from towers.sources.fits.top_pairs import PairScale, top_of_product
from towers.sources.item_lists import ItemLists
from towers.sources.log import SourceLog
from towers.sources.settings import BoughtTogetherSettings


def fit_bought_together(log: SourceLog, settings: BoughtTogetherSettings) -> ItemLists:
    """The `neighbours` items of highest lift beside each: baskets with both / (baskets expected + shrinkage)."""
    baskets = _baskets(log.targets() if settings.events == "target" else log)  # (K, n)
    count = np.bincount(baskets.indices, minlength=log.item_count)
    share = count.astype(np.float64) / np.sqrt(max(baskets.shape[0], 1))  # of two items, multiplied: what is expected
    scale = PairScale.of(share, share, settings.shrinkage)
    rows, weights = top_of_product(baskets.T.tocsr(), baskets, settings.neighbours, scale)
    return ItemLists.of_top(rows, weights**settings.power, settings.profile)


def _baskets(log: SourceLog) -> csr_matrix:
    """(K, n) 1 where an item lies in a basket: what one user took in one moment."""
    new = np.ones(len(log.user_row), np.bool_)
    new[1:] = (np.diff(log.user_row) != 0) | (np.diff(log.time_s) != 0)
    basket = np.cumsum(new) - 1
    shape = (int(new.sum()), log.item_count)
    matrix = csr_matrix((np.ones(len(basket), np.float32), (basket, log.item_row)), shape=shape)
    matrix.data[:] = 1
    return matrix
