"""How an item returns in a shopper's visits: a short and a long memory, visits since, share of the visits.

A visit is a moment with a target event. Counted in visits instead of days, who comes daily and who comes monthly can be
compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array
from towers.features.purchases import Purchases, find_row

HALF_LIFE_SHORT_DAYS = 5.0
HALF_LIFE_LONG_DAYS = 150.0
_SHORT_DECAY = np.float32(-math.log(2) / HALF_LIFE_SHORT_DAYS)
_LONG_DECAY = np.float32(-math.log(2) / HALF_LIFE_LONG_DAYS)


@dataclass(frozen=True, slots=True)
class Rhythms:
    """Columns (G,) float32 beside those of `Purchases`, in the order of its groups.

    Attributes:
        short, long: visits weighted by age, half-life 5 and 150 days.
        visits_since: the shopper's visits after the newest one with the item.
        visit_share: of the visits from the first with the item on, those with it.
    """

    short: FloatArray
    long: FloatArray
    visits_since: FloatArray
    visit_share: FloatArray

    @classmethod
    def of(cls, batch: HistoryBatch, purchases: Purchases) -> Rhythms:
        """From a batch and its aggregates."""
        age_days, groups = purchases.age_days, purchases.groups
        events = (batch.offsets, batch.item_row, batch.time_s, batch.is_target)
        weights = (np.exp(age_days * _SHORT_DECAY), np.exp(age_days * _LONG_DECAY))
        return cls(*_count(*events, *weights, groups.offsets, groups.item_row))


@kernel
def _count(
    offsets: Int64Array,
    item_row: Int32Array,
    time_s: Int64Array,
    is_target: BoolArray,
    short_weight: FloatArray,
    long_weight: FloatArray,
    group_offsets: Int64Array,
    group_row: Int32Array,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The columns of `Rhythms`."""
    count = len(group_row)
    short, long = np.zeros(count, np.float32), np.zeros(count, np.float32)
    times, first, last = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    since, share = np.empty(count, np.float32), np.empty(count, np.float32)
    for request in range(len(offsets) - 1):
        begin, end = group_offsets[request], group_offsets[request + 1]
        visits, visit_s = 0, np.int64(0)
        for event in range(offsets[request], offsets[request + 1]):
            if not is_target[event]:
                continue
            if visits == 0 or time_s[event] != visit_s:
                visits += 1
                visit_s = time_s[event]
            group = find_row(group_row, begin, end, item_row[event])
            if last[group] == visits:  # another line of the same basket
                continue
            if times[group] == 0:
                first[group] = visits
            last[group] = visits
            times[group] += 1
            short[group] += short_weight[event]
            long[group] += long_weight[event]
        for group in range(begin, end):
            since[group] = visits - last[group]
            share[group] = np.float32(times[group]) / np.float32(visits - first[group] + 1)
    return short, long, since, share
