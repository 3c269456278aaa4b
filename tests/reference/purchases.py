"""Reference · purchases: the events of a batch by (request, item), made by one sort and found by binary search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.reference.histories import age_days, keep, request_of_event
from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array

HALF_LIFE_SLOW_DAYS, HALF_LIFE_FAST_DAYS, HALF_LIFE_LONG_DAYS = np.float32(60), np.float32(14), np.float32(150)
NEVER_DAYS = np.float32(365)


@dataclass(frozen=True, slots=True)
class Groups:
    """E events in G groups, one for each (request, item).

    Attributes:
        key: (G,) request · item_count + item row, ascending. item_count: the factor in it.
        order: (E,) numbers of the events, group by group, each oldest first.
        start, end: (G,) first and last place of a group in `order`.
    """

    key: Int64Array
    item_count: int
    order: Int64Array
    start: Int64Array
    end: Int64Array

    @classmethod
    def of(cls, batch: HistoryBatch, item_count: int) -> Groups:
        """All events of the batch, whatever their type."""
        key = request_of_event(batch) * item_count + batch.item_row
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        start = np.flatnonzero(np.diff(ordered, prepend=-1))  # no key is negative
        return cls(ordered[start], item_count, order, start, np.append(start, len(key))[1:] - 1)

    @property
    def request(self) -> Int64Array:
        """(G,)"""
        return self.key // self.item_count

    @property
    def item_row(self) -> Int32Array:
        """(G,)"""
        return (self.key % self.item_count).astype(np.int32)

    def find(self, rows: Int32Array) -> tuple[Int64Array, BoolArray]:
        """For rows (B, K), none negative: the place of each one's group, and whether there is such a group."""
        wanted = np.arange(len(rows), dtype=np.int64)[:, None] * self.item_count + rows
        if len(self.key) == 0:
            return np.zeros(rows.shape, np.int64), np.zeros(rows.shape, np.bool_)
        place = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        return place, self.key[place] == wanted


@dataclass(frozen=True, slots=True)
class Bought:
    """What each of B requests has bought, by item; (G,) float32 unless it says otherwise.

    Attributes:
        targets: the target events alone, E of them. age_days, weight: (E,) their age, and 2^(-age / 60 days).
        groups: the (request, item) of each row below.
        times: visits, the moments at which the item was bought; a moment counts once.
        decayed_slow, decayed_fast, decayed_long: the same, weighted by 2^(-age / half-life), 60, 14 and 150 days.
        days_since: age of the newest purchase.
        interval_days: mean days from one visit to the next; NEVER_DAYS for a single one.
        total, total_fast: (B,) sums of 2^(-age / half-life) over the request's events, 60 and 14 days.
        long_weight: (E,) 2^(-age / 150 days).
    """

    targets: HistoryBatch
    age_days: FloatArray
    weight: FloatArray
    groups: Groups
    times: FloatArray
    decayed_slow: FloatArray
    decayed_fast: FloatArray
    decayed_long: FloatArray
    days_since: FloatArray
    interval_days: FloatArray
    total: FloatArray
    total_fast: FloatArray
    long_weight: FloatArray

    @classmethod
    def of(cls, batch: HistoryBatch, item_count: int) -> Bought:
        """From the histories of a batch."""
        targets = keep(batch, batch.is_target)
        groups = Groups.of(targets, item_count)
        age = age_days(targets)
        slow, fast = np.exp2(-age / HALF_LIFE_SLOW_DAYS), np.exp2(-age / HALF_LIFE_FAST_DAYS)
        long = np.exp2(-age / HALF_LIFE_LONG_DAYS)
        total = np.bincount(request_of_event(targets), weights=slow, minlength=len(batch.as_of_s)).astype(np.float32)
        total_fast = np.bincount(request_of_event(targets), weights=fast, minlength=len(total)).astype(np.float32)
        if len(groups.key) == 0:
            none = np.zeros(0, np.float32)
            return cls(targets, age, slow, groups, *[none] * 6, total, total_fast, long)
        time_s, sorted_age = targets.time_s[groups.order], age[groups.order]
        new_visit = np.ones(len(time_s), np.float32)
        new_visit[1:] = time_s[1:] != time_s[:-1]
        new_visit[groups.start] = 1
        times = np.add.reduceat(new_visit, groups.start)
        days_since = sorted_age[groups.end]
        span = sorted_age[groups.start] - days_since
        return cls(
            targets=targets,
            age_days=age,
            weight=slow,
            groups=groups,
            times=times,
            decayed_slow=np.add.reduceat(slow[groups.order] * new_visit, groups.start),
            decayed_fast=np.add.reduceat(fast[groups.order] * new_visit, groups.start),
            decayed_long=np.add.reduceat(long[groups.order] * new_visit, groups.start),
            days_since=days_since,
            interval_days=np.where(times > 1, span / np.maximum(times - 1, 1), NEVER_DAYS),
            total=total,
            total_fast=total_fast,
            long_weight=long,
        )
