"""Item statistics at many moments of one log: sorted once, then each moment costs a few passes of masks.

The numbers are those of `item_statistics` and `retrievable_items`, bit for bit; those sort the log for each moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.candidates import ItemTable, code_counts
from towers.features.histories import BoolArray, FloatArray, Histories, Int64Array
from towers.features.item_statistics import REBOUGHT_AGE_DAYS, REBOUGHT_S, ItemStatistics
from towers.item_table import POPULAR_MAX
from towers.learning_data import LearningData
from towers.settings import LearningSettings

_DAY_S = 86_400.0


@dataclass(frozen=True)
class ItemLog:
    """The target events by user, item and time; T of them.

    Attributes:
        item: (T,) item rows. time_s: (T,) epoch seconds. before_s: (T,) when the same user had the same item before;
            very long ago where this is the first time.
        first: (T,) whether it is. first_again: (T,) whether it is the first at a later second than one before.
        visit: (T,) whether it begins a visit: the first line of a user, an item and a second.
        followed: (T,) whether that is followed by the same user's next visit within 30 days.
        user_first_s: (users who bought,) each one's first target event. item_count: items of the catalogue.
    """

    item: Int64Array
    time_s: Int64Array
    before_s: Int64Array
    visit: BoolArray
    followed: BoolArray
    first: BoolArray
    first_again: BoolArray
    user_first_s: Int64Array
    item_count: int

    @classmethod
    def of(cls, histories: Histories, item_count: int) -> ItemLog:
        """Sorts the log."""
        target = histories.is_target(histories.event_type)
        user = np.repeat(np.arange(histories.user_count, dtype=np.int64), np.diff(histories.offsets))[target]
        item, time_s = histories.item_row[target].astype(np.int64), histories.time_s[target]
        users_first_s = time_s[np.flatnonzero(np.diff(user, prepend=-1))]  # each user's events ascend in time
        order = np.lexsort((time_s, item, user))
        key = (user * item_count + item)[order]
        item, time_s = item[order], time_s[order]
        first = np.ones(len(key), np.bool_)
        first[1:] = key[1:] != key[:-1]
        before_s = np.full(len(key), np.iinfo(np.int64).min // 2)
        before_s[1:][~first[1:]] = time_s[:-1][~first[1:]]
        again = np.flatnonzero(~first & (time_s > before_s))
        first_again = np.zeros(len(key), np.bool_)
        first_again[again[np.diff(key[again], prepend=-1) != 0]] = True
        visit = first | (time_s > before_s)
        visits = np.flatnonzero(visit)
        followed = np.zeros(len(key), np.bool_)
        followed[visits[:-1]] = (np.diff(key[visits]) == 0) & (np.diff(time_s[visits]) <= REBOUGHT_S)
        return cls(item, time_s, before_s, visit, followed, first, first_again, users_first_s, item_count)

    def buyers(self, as_of_s: int) -> Int64Array:
        """(items,) distinct users who bought each before the moment."""
        return np.bincount(self.item[self.first & (self.time_s < as_of_s)], minlength=self.item_count)

    def statistics(self, as_of_s: int) -> ItemStatistics:
        """As `item_statistics` of the log at that moment."""
        seen = self.time_s < as_of_s
        age_days = (as_of_s - self.time_s) / _DAY_S
        age_before = (as_of_s - self.before_s) / _DAY_S

        def buyers_between(newest: float, oldest: float) -> FloatArray:
            """Of each user and item the first event in the span counts."""
            chosen = seen & (age_days > newest) & (age_days <= oldest) & (age_before > oldest)
            return np.bincount(self.item[chosen], minlength=self.item_count).astype(np.float64)

        ever = self.buyers(as_of_s).astype(np.float64)
        in_28d, before_28d, in_7d = buyers_between(-1, 28), buyers_between(28, 84), buyers_between(-1, 7)
        in_14d, before_14d, in_60d = buyers_between(-1, 14), buyers_between(14, 28), buyers_between(-1, 60)
        repeated = seen & ~self.first & (self.time_s > self.before_s)
        item = self.item[repeated]
        gap_sum = np.bincount(
            item, weights=(self.time_s[repeated] - self.before_s[repeated]) / _DAY_S, minlength=self.item_count
        )
        gap_count = np.bincount(item, minlength=self.item_count)
        rebuyers = np.bincount(self.item[seen & self.first_again], minlength=self.item_count)
        first_age = np.zeros(self.item_count)
        firsts = seen & self.first
        np.maximum.at(first_age, self.item[firsts], age_days[firsts])
        first_buyers = np.bincount(self.item[firsts & (age_days <= 28)], minlength=self.item_count)
        asked = self.visit & (age_days > REBOUGHT_AGE_DAYS[0]) & (age_days <= REBOUGHT_AGE_DAYS[1])
        asked_count = np.bincount(self.item[asked], minlength=self.item_count)
        columns = (
            np.log1p(ever),
            np.log1p(in_28d),
            np.log1p(in_7d),
            np.log1p(in_28d) - np.log1p(before_28d / 2),
            rebuyers / (ever + 5.0),
            np.where(gap_count > 0, np.log1p(gap_sum / np.maximum(gap_count, 1)), np.log1p(90.0)),
            np.log1p(first_age),
            np.log1p(in_14d),
            np.log1p(in_14d) - np.log1p(before_14d),
            np.log1p(in_60d),
            np.bincount(self.item[asked & self.followed], minlength=self.item_count) / (asked_count + 5.0),
            np.log1p(first_buyers),
            first_buyers / (in_28d + 3.0),
        )
        values = np.stack(columns, axis=1).astype(np.float32)  # (items, S)
        user_count = max(int((self.user_first_s < as_of_s).sum()), 1)
        return ItemStatistics(values, (in_28d / user_count).astype(np.float32), as_of_s)

    def table(self, data: LearningData, vectors: FloatArray, settings: LearningSettings, as_of_s: int) -> ItemTable:
        """As `item_table` at that moment."""
        statistics = self.statistics(as_of_s)
        users_min = settings.training.item_users_min
        retrievable = self.buyers(as_of_s) >= users_min
        order = np.lexsort((-statistics.values[:, 0], -statistics.popularity))
        popular = order[retrievable[order]][:POPULAR_MAX].astype(np.int32)
        names = list(data.encoders.items.categorical)
        columns = [names.index(name) for name in settings.features.affinity_attributes]
        affinity = np.ascontiguousarray(data.items.attribute_code[:, columns])  # (n, A)
        return ItemTable(vectors, statistics.values, affinity, code_counts(affinity), popular, retrievable)
