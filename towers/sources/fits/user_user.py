"""User-based collaborative filtering (Herlocker et al. 1999), items weighted by how rare they are."""

from __future__ import annotations

import numpy as np

from towers.features.histories import Int32Array, Int64Array
from towers.sources.log import SourceLog
from towers.sources.settings import UserUserSettings
from towers.sources.user_lists import UserLists


def fit_user_user(log: SourceLog, settings: UserUserSettings) -> UserLists:
    """The newest distinct items of each user, the newest distinct users of each item, and what they count."""
    user, item, time_s = _newest_pairs(log)
    by_user = np.lexsort((item, -time_s, user))
    by_item = np.lexsort((user, -time_s, item))
    user_offsets, user_items = _capped(user[by_user], item[by_user], log.user_count, settings.items_per_user_max)
    item_offsets, item_users = _capped(item[by_item], user[by_item], log.item_count, settings.users_per_item_max)
    holders = np.maximum(np.bincount(item, minlength=log.item_count), 1)
    if settings.weighting == "idf":
        weight = np.log1p(log.user_count / holders)
    else:
        weight = (1.0 / holders) ** settings.popularity_exponent
    square = np.bincount(user, weight[item] ** 2, minlength=log.user_count).astype(np.float64)
    scale = np.divide(1, square**settings.length_exponent, out=np.zeros_like(square), where=square > 0)
    return UserLists(
        user_offsets,
        user_items,
        item_offsets,
        item_users,
        weight.astype(np.float32),
        scale.astype(np.float32),
        np.array([settings.neighbours, settings.likeness_power, settings.nearness_half_life], np.float64),
        settings.profile,
    )


def _newest_pairs(log: SourceLog) -> tuple[Int64Array, Int64Array, Int64Array]:
    """(P,) users, items and newest times of the distinct pairs."""
    pair = log.user_row.astype(np.int64) * log.item_count + log.item_row
    order = np.lexsort((-log.time_s, pair))
    distinct, first = np.unique(pair[order], return_index=True)
    count = max(log.item_count, 1)
    return distinct // count, distinct % count, log.time_s[order][first]


def _capped(line: Int64Array, value: Int64Array, line_count: int, size_max: int) -> tuple[Int64Array, Int32Array]:
    """The first `size_max` values of each line, lines ascending, as offsets (line_count + 1,) and values."""
    starts = np.searchsorted(line, np.arange(line_count + 1))
    kept = np.arange(len(line)) - starts[line] < size_max
    offsets = np.concatenate([[0], np.cumsum(np.bincount(line[kept], minlength=line_count))]).astype(np.int64)
    return offsets, value[kept].astype(np.int32)
