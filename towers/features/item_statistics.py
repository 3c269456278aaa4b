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
)


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
    buyers_7d = buyers(age_days <= 7)

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

    columns = (
        np.log1p(buyers_ever),
        np.log1p(buyers_28d),
        np.log1p(buyers_7d),
        np.log1p(buyers_28d) - np.log1p(buyers_before_28d / 2),
        rebuyers / (buyers_ever + 5.0),
        np.where(gap_count > 0, np.log1p(gap_sum / np.maximum(gap_count, 1)), np.log1p(90.0)),
        np.log1p(first_age),
    )
    values = np.stack(columns, axis=1).astype(np.float32)  # (items, S)
    user_count = max(len(np.unique(user)), 1)
    return ItemStatistics(values, (buyers_28d / user_count).astype(np.float32), as_of_s)
