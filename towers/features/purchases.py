"""What each shopper of a batch bought: one row a (request, item), made by one sort and found by binary search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array
from towers.ordering import BIN_COUNT, by_digits

HALF_LIFE_SLOW_DAYS = 60.0
HALF_LIFE_FAST_DAYS = 14.0
HALF_LIFE_LONG_DAYS = 150.0
NEVER_DAYS = 365.0
_SLOW_DECAY = np.float32(-math.log(2) / HALF_LIFE_SLOW_DAYS)
_FAST_DECAY = np.float32(-math.log(2) / HALF_LIFE_FAST_DAYS)
_LONG_DECAY = np.float32(-math.log(2) / HALF_LIFE_LONG_DAYS)
_PLACE_BITS = 32
_PLACE_MASK = (1 << _PLACE_BITS) - 1


@dataclass(frozen=True, slots=True)
class ItemGroups:
    """The distinct items of each request's events; G groups in all.

    Attributes:
        offsets: (B + 1,) where each request's groups begin. item_row: (G,) ascending within a request.
        events: (G,) float32, how many events each has.
    """

    offsets: Int64Array
    item_row: Int32Array
    events: FloatArray

    @property
    def request(self) -> Int64Array:
        """(G,) the request of each group."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), np.diff(self.offsets))

    def find(self, rows: Int32Array) -> NDArray[np.int64]:
        """The group of each row (B, K), -1 where its request has none."""
        return _find(self.offsets, self.item_row, rows)


@dataclass(frozen=True, slots=True)
class Purchases:
    """Aggregates of each (request, item) that was bought; columns (G,) float32, as of the request.

    Attributes:
        groups: which request and item each row is.
        times: visits in which it was bought; several lines of one basket count once.
        decayed_slow, decayed_fast, decayed_long: visits weighted by age, half-life 60, 14 and 150 days.
        days_since: since the newest purchase.
        interval_days: mean days between purchases, NEVER_DAYS when bought once.
        total, total_fast: (B,) the request's decayed purchases, all items together, half-life 60 and 14 days.
        others: the items of the events that are no purchases. others_days_since: (G',) since the newest of each.
        age_days, weight, long_weight: (E,) of each event of the batch, its age and what it counts by that, half-life 60
            and 150 days.
    """

    groups: ItemGroups
    times: FloatArray
    decayed_slow: FloatArray
    decayed_fast: FloatArray
    decayed_long: FloatArray
    days_since: FloatArray
    interval_days: FloatArray
    total: FloatArray
    total_fast: FloatArray
    others: ItemGroups
    others_days_since: FloatArray
    age_days: FloatArray
    weight: FloatArray
    long_weight: FloatArray

    @classmethod
    def of(cls, batch: HistoryBatch) -> Purchases:
        """Aggregates the target events of the batch, and counts the others."""
        age_days = batch.age_days
        weights = tuple(np.exp(age_days * decay) for decay in (_SLOW_DECAY, _FAST_DECAY, _LONG_DECAY))
        columns = (batch.offsets, batch.item_row, batch.time_s, batch.is_target, age_days, weights)
        offsets, rows, events, times, slow, fast, long, since, interval, total, total_fast = _aggregate(*columns, True)
        others = _aggregate(*columns, False)
        return cls(
            ItemGroups(offsets, rows, events),
            times,
            slow,
            fast,
            long,
            since,
            interval,
            total,
            total_fast,
            others=ItemGroups(*others[:3]),
            others_days_since=others[7],
            age_days=age_days,
            weight=weights[0],
            long_weight=weights[2],
        )


@kernel
def place_of(item_row: Int32Array, begin: int, end: int, row: int) -> int:
    """The first place in the ascending `item_row[begin:end]` that does not stand before `row`; `end` if all do."""
    low, high = begin, end
    while low < high:
        middle = (low + high) >> 1
        if item_row[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def next_place(item_row: Int32Array, begin: int, end: int, row: int, at: int, before: int) -> int:
    """As `place_of`, where `at` is that of the row `before`: a few steps, since rows mostly ascend."""
    if row < before:
        return place_of(item_row, begin, end, row)
    while at < end and item_row[at] < row:
        at += 1
    return at


@kernel
def find_row(item_row: Int32Array, begin: int, end: int, row: int) -> int:
    """The place of `row` in the ascending `item_row[begin:end]`, -1 where it is not there."""
    place = place_of(item_row, begin, end, row)
    return place if place < end and item_row[place] == row else -1


@kernel
def _find(offsets: Int64Array, item_row: Int32Array, rows: Int32Array) -> Int64Array:
    found = np.empty(rows.shape, np.int64)
    for request in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            found[request, column] = find_row(item_row, offsets[request], offsets[request + 1], rows[request, column])
    return found


@kernel
def _aggregate(
    offsets: Int64Array,
    item_row: Int32Array,
    time_s: Int64Array,
    is_target: BoolArray,
    age_days: FloatArray,
    weights: tuple[FloatArray, FloatArray, FloatArray],
    wanted: bool,
) -> tuple[
    Int64Array,
    Int32Array,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
]:
    """The columns of `Purchases` over the events whose `is_target` is `wanted`; `weights` slow, fast and long."""
    weight, fast_weight, long_weight = weights
    request_count = len(offsets) - 1
    room, longest = 0, 0
    for request in range(request_count):
        longest = max(longest, offsets[request + 1] - offsets[request])
    for event in range(offsets[request_count]):
        room += is_target[event] == wanted
    group_offsets = np.zeros(request_count + 1, np.int64)
    rows, events, times = np.empty(room, np.int32), np.empty(room, np.float32), np.empty(room, np.float32)
    slow, fast, long = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    since, interval = np.empty(room, np.float32), np.empty(room, np.float32)
    total, total_fast = np.zeros(request_count, np.float32), np.zeros(request_count, np.float32)
    unordered, spare, bins = np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(BIN_COUNT, np.int32)
    group = 0
    for request in range(request_count):
        begin, count = offsets[request], 0
        for event in range(begin, offsets[request + 1]):
            if is_target[event] == wanted:
                unordered[count] = (np.int64(item_row[event]) << _PLACE_BITS) | (event - begin)
                count += 1
        keys = by_digits(unordered, spare, bins, count, _PLACE_BITS)  # by item, and of one item oldest first
        everything, everything_fast, at = 0.0, 0.0, 0
        while at < count:
            row, first, visits = keys[at] >> _PLACE_BITS, at, 0
            decayed_slow, decayed_fast, decayed_long = 0.0, 0.0, 0.0
            oldest, age, last_s = np.float32(0), np.float32(0), np.int64(0)
            while at < count and keys[at] >> _PLACE_BITS == row:
                event = begin + (keys[at] & _PLACE_MASK)
                age = age_days[event]
                everything += weight[event]
                everything_fast += fast_weight[event]
                if at == first:
                    oldest = age
                if at == first or time_s[event] != last_s:
                    visits += 1
                    decayed_slow += weight[event]
                    decayed_fast += fast_weight[event]
                    decayed_long += long_weight[event]
                last_s = time_s[event]
                at += 1
            rows[group], events[group], times[group] = row, at - first, visits
            slow[group], fast[group], long[group], since[group] = decayed_slow, decayed_fast, decayed_long, age
            interval[group] = (oldest - age) / (visits - 1) if visits > 1 else NEVER_DAYS
            group += 1
        total[request], total_fast[request] = everything, everything_fast
        group_offsets[request + 1] = group
    return (
        group_offsets,
        rows[:group],
        events[:group],
        times[:group],
        slow[:group],
        fast[:group],
        long[:group],
        since[:group],
        interval[:group],
        total,
        total_fast,
    )
