"""Items alike by what the catalogue says of them, so that an item is found before anyone had to do with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack

from towers.features.histories import FloatArray
from towers.sources.fits.top_pairs import PairScale, top_of_product
from towers.sources.item_lists import ItemLists
from towers.sources.log import SourceLog
from towers.sources.settings import ContentSettings


def fit_content(log: SourceLog, settings: ContentSettings) -> ItemLists:
    """The `neighbours` items of highest cosine beside each; attributes and words count by how rare they are."""
    features = _features(log, settings)  # (n, F)
    ones = np.ones(log.item_count)
    rows, weights = top_of_product(features, features.T.tocsr(), settings.neighbours, PairScale.of(ones, ones))
    return ItemLists.of_top(rows, weights**settings.power, settings.profile)


def _features(log: SourceLog, settings: ContentSettings) -> csr_matrix:
    """(n, F) rows of length 1, or 0 where nothing is known."""
    items = log.items
    bins = _bins(items.number, settings.number_bins)
    blocks = [
        _block(items.attribute_code, settings.attribute_weight, settings.feature_items_max, apart=True),
        _block(items.word, settings.word_weight, settings.feature_items_max, apart=False),
        _block(bins, settings.number_weight, settings.feature_items_max, apart=True),
    ]
    return _unit(hstack(blocks, format="csr", dtype=np.float32))


def _block(codes: NDArray[np.integer], weight: float, items_max: int, *, apart: bool) -> csr_matrix:
    """(n, F) the codes (n, C), 0 for nothing, as rows of length √weight; a code counts log(n / items that have it).

    Codes of more than `items_max` items are left out: they say least and cost most. apart: each column's codes are its
    own, else they mean the same in all.
    """
    count, columns = codes.shape
    size = int(codes.max(initial=0)) + 1
    feature = codes + size * np.arange(columns) if apart else codes
    item, place = np.nonzero(codes)
    shape = (count, size * max(columns, 1) if apart else size)
    block = csr_matrix((np.ones(len(item), np.float32), (item, feature[item, place])), shape=shape)
    block.data[:] = 1
    holders = np.bincount(block.indices, minlength=shape[1])
    rarity = np.log(max(count, 1) / np.maximum(holders, 1))
    rarity[holders > items_max] = 0
    block = (block @ diags(rarity)).tocsr()
    block.eliminate_zeros()
    return _unit(block) * np.float32(np.sqrt(weight))


def _bins(number: FloatArray, bin_count: int) -> NDArray[np.int64]:
    """(n, M) the quantile of each number, from 1; without columns where there are no bins."""
    if bin_count == 0 or len(number) == 0:
        return np.zeros((len(number), 0), np.int64)
    edges = np.quantile(number, np.linspace(0, 1, bin_count + 1)[1:-1], axis=0)  # (bins - 1, M)
    bins: NDArray[np.int64] = 1 + (number[None] > edges[:, None, :]).sum(axis=0)
    return bins


def _unit(matrix: csr_matrix) -> csr_matrix:
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1), np.float64)).ravel()
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return (diags(scale) @ matrix).tocsr().astype(np.float32)
