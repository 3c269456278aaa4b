"""What each shopper of a batch bought: one row a (request, item), made by one sort and found by binary search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array

HALF_LIFE_SLOW_DAYS = 60.0
HALF_LIFE_FAST_DAYS = 14.0
NEVER_DAYS = 365.0


@dataclass(frozen=True, slots=True)
class ItemGroups:
    """The events of a batch, grouped by (request, item) and sorted by that key; G groups over E events.

    Attributes:
        key: (G,) request · item_count + item row, ascending.
        order: (E,) event numbers, group after group, oldest first within each.
        start: (G,) where each group begins in `order`. end: (G,) its last place, inclusive.
        first: (E,) whether a place of `order` begins a group.
        item_count: the factor in `key`.
    """

    key: Int64Array
    order: Int64Array
    start: Int64Array
    end: Int64Array
    first: BoolArray
    item_count: int

    @classmethod
    def of(cls, batch: HistoryBatch, item_count: int) -> ItemGroups:
        """Groups the events of the batch."""
        key = batch.request_of_event * item_count + batch.item_row
        order = np.argsort(key, kind="stable")  # times stay ascending within a group
        sorted_key = key[order]
        first = np.ones(len(key), np.bool_)
        first[1:] = sorted_key[1:] != sorted_key[:-1]
        start = np.flatnonzero(first)
        end = np.append(start[1:], len(key)) - 1 if len(start) else start
        return cls(sorted_key[start], order, start, end, first, item_count)

    @property
    def request(self) -> Int64Array:
        """(G,) the request of each group."""
        return self.key // self.item_count

    @property
    def item_row(self) -> Int32Array:
        """(G,) the item of each group."""
        return (self.key % self.item_count).astype(np.int32)

    def find(self, rows: Int32Array) -> tuple[Int64Array, BoolArray]:
        """The group of each candidate (B, K) and whether it has one; rows must not be negative."""
        key = np.arange(len(rows), dtype=np.int64)[:, None] * self.item_count + rows
        if len(self.key) == 0:
            return np.zeros(rows.shape, np.int64), np.zeros(rows.shape, np.bool_)
        place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return place, self.key[place] == key


@dataclass(frozen=True, slots=True)
class Purchases:
    """Aggregates of each (request, item) that was bought; all columns (G,) float32, as of the request.

    Attributes:
        groups: which request and item each row is.
        times: visits in which it was bought; several lines of one basket count once.
        decayed_slow, decayed_fast: visits weighted by age, half-life 60 and 14 days.
        days_since: since the newest purchase.
        interval_days: mean days between purchases, NEVER_DAYS when bought once.
        total: (B,) the request's decayed purchases, all items together.
        targets: the target events that the rows were made from.
        age_days, weight: (E,) age and slow weight of those events.
    """

    groups: ItemGroups
    times: FloatArray
    decayed_slow: FloatArray
    decayed_fast: FloatArray
    days_since: FloatArray
    interval_days: FloatArray
    total: FloatArray
    targets: HistoryBatch
    age_days: FloatArray
    weight: FloatArray

    @classmethod
    def of(cls, batch: HistoryBatch, item_count: int) -> Purchases:
        """Aggregates the target events of the batch."""
        targets = batch.targets()
        age_days = targets.age_days
        slow = np.exp2(-age_days / np.float32(HALF_LIFE_SLOW_DAYS))
        fast = np.exp2(-age_days / np.float32(HALF_LIFE_FAST_DAYS))
        total = np.bincount(targets.request_of_event, weights=slow, minlength=len(batch)).astype(np.float32)
        groups = ItemGroups.of(targets, item_count)
        if len(groups.key) == 0:
            none = np.zeros(0, np.float32)
            return cls(groups, none, none, none, none, none, total, targets, age_days, slow)
        time_s, sorted_age = targets.time_s[groups.order], age_days[groups.order]
        new_visit = groups.first.copy()
        new_visit[1:] |= time_s[1:] != time_s[:-1]
        visit = new_visit.astype(np.float32)
        times = np.add.reduceat(visit, groups.start)
        days_since = sorted_age[groups.end]
        span = sorted_age[groups.start] - days_since
        return cls(
            groups=groups,
            times=times,
            decayed_slow=np.add.reduceat(slow[groups.order] * visit, groups.start),
            decayed_fast=np.add.reduceat(fast[groups.order] * visit, groups.start),
            days_since=days_since,
            interval_days=np.where(times > 1, span / np.maximum(times - 1, 1), np.float32(NEVER_DAYS)),
            total=total,
            targets=targets,
            age_days=age_days,
            weight=slow,
        )
