"""What is known of each item from everybody's target events before one moment: popularity, trend, repurchase.

Computed from the log for every training cut and once for the generation; never from events at or after `as_of_s`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.features.histories import FloatArray, Histories

STATISTIC_NAMES = (
    "log_buyers",
    "log_recent_28d",
    "log_recent_7d",
    "trend",
    "rebuyer_share",
    "log_interval_days",
    "log_age_days",
    "log_recent_14d",
    "trend_14d",
    "log_recent_60d",
    "rebought_30d_share",
    "log_first_buyers_28d",
    "first_buyers_share",
)
REBOUGHT_AGE_DAYS = (30.0, 120.0)
"""`rebought_30d_share` is of visits older than the first and not older than the second."""
REBOUGHT_S = 30 * 86_400
"""Within so many seconds another visit followed."""


@dataclass(frozen=True, slots=True)
class ItemStatistics:
    """Per-item columns as of one moment.

    Attributes:
        values: (items, len(STATISTIC_NAMES)) float32, in the order of STATISTIC_NAMES.
        popularity: (items,) float32 share of users who bought it in the last 28 days, for the popular source.
        as_of_s: the moment, epoch seconds.
    """

    values: FloatArray
    popularity: FloatArray
    as_of_s: int


def item_statistics(histories: Histories, item_count: int, as_of_s: int) -> ItemStatistics:
    """Counts the target events before `as_of_s`; an item without any has zeros, and 90 days between purchases."""
    seen = histories.is_target(histories.event_type) & (histories.time_s < as_of_s)
    user = np.repeat(np.arange(histories.user_count, dtype=np.int64), np.diff(histories.offsets))[seen]
    item = histories.item_row[seen].astype(np.int64)
    time_s = histories.time_s[seen]
    age_days = (as_of_s - time_s) / 86_400.0

    def buyers(mask: np.ndarray) -> np.ndarray:
        pairs = np.unique(user[mask] * item_count + item[mask])
        return np.bincount(pairs % item_count, minlength=item_count).astype(np.float64)

    buyers_ever = buyers(np.ones(len(item), np.bool_))
    buyers_28d, buyers_before_28d = buyers(age_days <= 28), buyers((age_days > 28) & (age_days <= 84))
    buyers_7d, buyers_60d = buyers(age_days <= 7), buyers(age_days <= 60)
    buyers_14d, buyers_before_14d = buyers(age_days <= 14), buyers((age_days > 14) & (age_days <= 28))

    order = np.lexsort((time_s, item, user))
    key = (user * item_count + item)[order]
    repeated = np.flatnonzero((key[1:] == key[:-1]) & (np.diff(time_s[order]) > 0)) + 1
    gap_days = (time_s[order][repeated] - time_s[order][repeated - 1]) / 86_400.0
    repeated_item = item[order][repeated]
    gap_sum = np.bincount(repeated_item, weights=gap_days, minlength=item_count)
    gap_count = np.bincount(repeated_item, minlength=item_count)
    rebuyers = np.bincount(np.unique(key[repeated]) % item_count, minlength=item_count)
    first_age = np.zeros(item_count)
    np.maximum.at(first_age, item, age_days)
    first_buyers = np.bincount(item[order][_first_of(key) & (age_days[order] <= 28)], minlength=item_count)
    rebought = _rebought_share(key, item[order], time_s[order], age_days[order], item_count)

    columns = (
        np.log1p(buyers_ever),
        np.log1p(buyers_28d),
        np.log1p(buyers_7d),
        np.log1p(buyers_28d) - np.log1p(buyers_before_28d / 2),
        rebuyers / (buyers_ever + 5.0),
        np.where(gap_count > 0, np.log1p(gap_sum / np.maximum(gap_count, 1)), np.log1p(90.0)),
        np.log1p(first_age),
        np.log1p(buyers_14d),
        np.log1p(buyers_14d) - np.log1p(buyers_before_14d),
        np.log1p(buyers_60d),
        rebought,
        np.log1p(first_buyers),
        first_buyers / (buyers_28d + 3.0),
    )
    values = np.stack(columns, axis=1).astype(np.float32)  # (items, S)
    user_count = max(len(np.unique(user)), 1)
    return ItemStatistics(values, (buyers_28d / user_count).astype(np.float32), as_of_s)


def _first_of(key: np.ndarray) -> np.ndarray:
    """(T,) whether it is the first of equal ones; `key` ascends."""
    first = np.ones(len(key), np.bool_)
    first[1:] = key[1:] != key[:-1]
    return first


def _rebought_share(
    key: np.ndarray, item: np.ndarray, time_s: np.ndarray, age_days: np.ndarray, item_count: int
) -> np.ndarray:
    """(items,) of the visits of REBOUGHT_AGE_DAYS, the share that the same user's next one followed within 30 days.

    Events (T,) by `key` of user and item, and by time. Five visits that nothing followed are added.
    """
    visits = np.flatnonzero(_first_of(key) | (np.diff(time_s, prepend=-1) > 0))
    key, item, time_s, age_days = key[visits], item[visits], time_s[visits], age_days[visits]
    followed = np.zeros(len(visits), np.bool_)
    followed[:-1] = (key[1:] == key[:-1]) & (np.diff(time_s) <= REBOUGHT_S)
    asked = (age_days > REBOUGHT_AGE_DAYS[0]) & (age_days <= REBOUGHT_AGE_DAYS[1])
    count = np.bincount(item[asked], minlength=item_count)
    shares: np.ndarray = np.bincount(item[asked & followed], minlength=item_count) / (count + 5.0)
    return shares
