"""A synthetic shop that is as hard to search as a real one: vectors, attributes and histories from one seed.

Vectors: clusters whose centres and whose inside both have a power-law spectrum (variance of the i-th axis falls as
i ** -SPECTRUM_EXPONENT, in a random basis), cluster sizes by Zipf's law, everything of unit length.
Popularity inside a cluster is Zipf's too. A shopper likes a few clusters and buys from them, so that the mean of
a history, and with it the query, lies between clusters, where inverted lists are hard to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED = 20_171_201
AS_OF_S = 1_798_761_600
"""2027-01-01, the moment that the shop is asked as of."""
DIMENSION = 64
HISTORY_EVENTS = 50
SPECTRUM_EXPONENT = 0.7
WITHIN_SHARE = 0.31
"""How much of an item's variance is its own; the rest is its cluster's."""
ITEMS_PER_CLUSTER = 200
CLUSTER_ZIPF, ITEM_ZIPF = 0.6, 0.8
LIKED_CLUSTERS = 3
_DAY_S = 86_400


@dataclass(frozen=True)
class SyntheticShop:
    """n items and U users.

    Attributes:
        vectors: (n, D) float32 unit vectors. cluster: (n,) int32.
        popularity: (n,) events of each item.
        item_row: (U · HISTORY_EVENTS,) int32, user after user, oldest first. time_s: as item_row, int64.
    """

    vectors: NDArray[np.float32]
    cluster: NDArray[np.int32]
    popularity: NDArray[np.int64]
    item_row: NDArray[np.int32]
    time_s: NDArray[np.int64]


def make_shop(item_count: int, user_count: int, seed: int = SEED) -> SyntheticShop:
    """The same shop for the same arguments."""
    random = np.random.default_rng(seed)
    cluster_count = max(8, item_count // ITEMS_PER_CLUSTER)
    vectors, cluster = _items(item_count, cluster_count, random)
    item_row = _histories(cluster, cluster_count, user_count, random)
    age_s = random.exponential(90 * _DAY_S, (user_count, HISTORY_EVENTS)).clip(600, 360 * _DAY_S)
    time_s = AS_OF_S - np.sort(age_s, axis=1)[:, ::-1].astype(np.int64)  # oldest first
    popularity = np.bincount(item_row, minlength=item_count).astype(np.int64)
    return SyntheticShop(vectors, cluster, popularity, item_row, time_s.ravel())


def _items(
    item_count: int, cluster_count: int, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    deviation = np.arange(1, DIMENSION + 1, dtype=np.float32) ** (-SPECTRUM_EXPONENT / 2)
    deviation /= np.sqrt((deviation**2).sum())
    basis = np.linalg.qr(random.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)
    share = _zipf(cluster_count, CLUSTER_ZIPF)
    cluster = np.sort(random.choice(cluster_count, item_count, p=share)).astype(np.int32)
    centres = random.standard_normal((cluster_count, DIMENSION), np.float32) * deviation * np.sqrt(1 - WITHIN_SHARE)
    vectors = np.empty((item_count, DIMENSION), np.float32)
    for start in range(0, item_count, 1_000_000):  # bounds the memory
        part = slice(start, min(start + 1_000_000, item_count))
        own = random.standard_normal((part.stop - start, DIMENSION), np.float32) * deviation * np.sqrt(WITHIN_SHARE)
        raw = (centres[cluster[part]] + own) @ basis
        vectors[part] = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    shuffled = random.permutation(item_count)  # rows say nothing of clusters, as in a shop
    return vectors[shuffled], cluster[shuffled]


def _histories(
    cluster: NDArray[np.int32], cluster_count: int, user_count: int, random: np.random.Generator
) -> NDArray[np.int32]:
    """(U · HISTORY_EVENTS,) rows: a liked cluster, then an item of it by popularity."""
    members = np.argsort(cluster, kind="stable")
    size = np.bincount(cluster, minlength=cluster_count)
    begin = np.cumsum(size) - size
    filled = np.flatnonzero(size)
    share = _zipf(cluster_count, CLUSTER_ZIPF)[filled]
    liked = filled[random.choice(len(filled), (user_count, LIKED_CLUSTERS), p=share / share.sum())]
    weight = _zipf(LIKED_CLUSTERS, 1.0)
    chosen = np.take_along_axis(
        liked, random.choice(LIKED_CLUSTERS, (user_count, HISTORY_EVENTS), p=weight), axis=1
    ).ravel()
    # The inverse of Zipf's distribution function over ranks 1 … size, taken as continuous.
    power = 1 - ITEM_ZIPF
    uniform = random.random(len(chosen))
    rank = ((1 + uniform * ((size[chosen] + 1.0) ** power - 1)) ** (1 / power)).astype(np.int64) - 1
    rows: NDArray[np.int32] = members[begin[chosen] + np.minimum(rank, size[chosen] - 1)].astype(np.int32)
    return rows


def _zipf(count: int, exponent: float) -> NDArray[np.float64]:
    weight = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    share: NDArray[np.float64] = weight / weight.sum()
    return share
