"""Bayesian personalised ranking (Rendle et al. 2009) of shoppers who are the sum of what their items bring.

That is FISM with the pairwise loss (Kabbur et al. 2013): two vectors an item, none of a user, so that a shopper who
asks is treated as those of the log were. One thread draws and steps: the same seed gives the same vectors.
"""

from __future__ import annotations

import numpy as np

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.sources.factors import ItemFactors
from towers.sources.fits.shoppers import all_histories
from towers.sources.log import SourceLog
from towers.sources.profiles import profiles
from towers.sources.settings import BprSettings

_START_DEVIATION = 0.1


def fit_bpr(log: SourceLog, settings: BprSettings, seed: int) -> ItemFactors:
    """Stochastic gradient steps over all users' items, with a step size that falls to a tenth."""
    own = profiles(all_histories(log), settings.profile, log.item_count)
    random = np.random.default_rng(seed)
    shape = (log.item_count, settings.dimension)
    scale = _START_DEVIATION / np.sqrt(settings.dimension)
    brings, items = (random.normal(scale=scale, size=shape).astype(np.float32) for _ in range(2))
    known = np.bincount(own.item_row, minlength=log.item_count) > 0
    if known.sum() > 1:
        mine = np.zeros(log.item_count, np.bool_)
        drawn_from = np.flatnonzero(known).astype(np.int32)
        for epoch in range(settings.epochs):
            step = settings.step * 0.1 ** (epoch / max(settings.epochs - 1, 1))
            order = random.permutation(log.user_count)
            _pass_over(
                own.offsets,
                own.item_row,
                own.weight,
                order,
                drawn_from,
                brings,
                items,
                mine,
                settings.negatives,
                step,
                settings.regularization,
                settings.length_exponent,
                int(random.integers(1, 2**62)),
            )
    brings[~known], items[~known] = 0, 0
    return ItemFactors(brings, items, settings.profile)


@kernel
def _pass_over(
    offsets: Int64Array,
    item_row: Int32Array,
    weight: FloatArray,
    order: Int64Array,
    drawn_from: Int32Array,
    brings: FloatArray,
    items: FloatArray,
    mine: BoolArray,
    negatives: int,
    step: float,
    regularization: float,
    length_exponent: float,
    seed: int,
) -> None:
    """One pass: each item of each user against `negatives` others; `mine` (n,) False before and after."""
    state = np.uint64(seed)
    dimension = brings.shape[1]
    whole, user, pull = (
        np.empty(dimension, np.float32),
        np.empty(dimension, np.float32),
        np.empty(dimension, np.float32),
    )
    step32, keep = np.float32(step), np.float32(1 - step * regularization)
    for turn in range(len(order)):
        begin, end = offsets[order[turn]], offsets[order[turn] + 1]
        if end - begin < 2 or end - begin >= len(drawn_from):
            continue
        whole[:], pull[:] = 0, 0
        for place in range(begin, end):
            mine[item_row[place]] = True
            for column in range(dimension):
                whole[column] += weight[place] * brings[item_row[place], column]
        share = np.float32((end - begin - 1) ** -length_exponent)
        for place in range(begin, end):
            row = item_row[place]
            for column in range(dimension):  # without the item itself, which is what is to be found
                user[column] = share * (whole[column] - weight[place] * brings[row, column])
            for _ in range(negatives):
                other = row
                while mine[other]:
                    state ^= state << np.uint64(13)  # xorshift (Marsaglia 2003)
                    state ^= state >> np.uint64(7)
                    state ^= state << np.uint64(17)
                    other = drawn_from[np.int64((state >> np.uint64(11)) % np.uint64(len(drawn_from)))]
                ahead = np.float32(0)
                for column in range(dimension):
                    ahead += user[column] * (items[row, column] - items[other, column])
                force = step32 / (np.float32(1) + np.exp(ahead))
                for column in range(dimension):
                    pull[column] += force * share * (items[row, column] - items[other, column])
                    items[row, column] = keep * items[row, column] + force * user[column]
                    items[other, column] = keep * items[other, column] - force * user[column]
        for place in range(begin, end):
            row = item_row[place]
            mine[row] = False
            for column in range(dimension):
                brings[row, column] = keep * brings[row, column] + weight[place] * pull[column]
