"""User × item features for the ranker: how this shopper stands to each candidate, as of the request.

Aggregates per (request, item) come from `Purchases`; aggregates per (request, attribute value) are made here, one pass
over the request's purchases.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.purchases import NEVER_DAYS, Purchases, next_place
from towers.prefetch import AHEAD, prefetch

ITEM_FEATURES = (
    "log_times",
    "log_decayed_slow",
    "log_decayed_fast",
    "log_days_since",
    "ever",
    "share",
    "log_other_events",
    "log_days_since_other",
    "fast_share",
    "smooth_due_ratio",
    "log_decayed_long",
    "log_smooth_interval_days",
    "due_soon_ratio",
)
ATTRIBUTE_FEATURES = ("log_decayed", "share", "log_days_since", "log_decayed_long", "log_interval_days", "loyalty")
_NEVER = np.float32(np.log1p(NEVER_DAYS))
_SMOOTH_DUE_MAX, _DUE_SOON_MAX = np.float32(6), np.float32(8)
_INTERVAL = STATISTIC_NAMES.index("log_interval_days")
_INTERVAL_VISITS = np.float32(2)
"""How many visits everybody's interval between purchases of an item weighs beside the shopper's own."""
_SOON_DAYS = np.float32(30)
"""How far ahead of the request `due_soon_ratio` looks."""
_VALUE_INTERVAL_DAYS, _VALUE_INTERVAL_VISITS = np.float32(30), np.float32(2)
"""Days between two visits to an attribute's value where little is known, and how many visits they weigh."""
_ITEM_COUNT, _ATTRIBUTE_COUNT = len(ITEM_FEATURES), len(ATTRIBUTE_FEATURES)


def pair_feature_names(attributes: Iterable[str]) -> tuple[str, ...]:
    """The columns of `pair_features`, in order."""
    return ITEM_FEATURES + tuple(f"{name}_{part}" for name in attributes for part in ATTRIBUTE_FEATURES)


def pair_features(
    batch: HistoryBatch,
    purchases: Purchases,
    candidates: Int32Array,
    codes: Int32Array,
    code_counts: Int64Array,
    statistics: FloatArray,
    further: int = 0,
) -> FloatArray:
    """Features of every candidate of every request.

    Args:
        batch: the histories of B requests.
        purchases: the aggregates of the same batch.
        candidates: (B, K) item rows; -1 pads, whose features are 0.
        codes: (items, A) value codes of the affinity attributes.
        code_counts: (A,) codes of attribute a are below code_counts[a].
        statistics: (items, S) as `ItemStatistics.values`.
        further: columns to leave room for behind those of `pair_feature_names`, 0 for now.

    Returns:
        (B, K, P + further) float32, columns as `pair_feature_names` says.
    """
    out = np.zeros((*candidates.shape, _ITEM_COUNT + _ATTRIBUTE_COUNT * codes.shape[1] + further), np.float32)
    bought, others, total = purchases.groups, purchases.others, purchases.total
    of_bought = (
        np.log1p(purchases.times),
        np.log1p(purchases.decayed_slow),
        np.log1p(purchases.decayed_fast),
        np.log1p(purchases.days_since),
        purchases.decayed_slow,
        purchases.decayed_fast,
        purchases.interval_days * (purchases.times > 1),
        purchases.times,
        purchases.days_since,
        np.log1p(purchases.decayed_long),
    )
    totals = (total, purchases.total_fast)
    _write_bought(candidates, bought.offsets, bought.item_row, of_bought, totals, statistics, out)
    of_others = (np.log1p(others.events), np.log1p(purchases.others_days_since))
    _write_others(candidates, others.offsets, others.item_row, of_others, out)
    if codes.shape[1]:
        events = (batch.offsets, batch.item_row, batch.is_target, batch.time_s, purchases.age_days)
        weights = (purchases.weight, purchases.long_weight)
        slots, decayed, share, age, long, days = _sum_by_value(*events, weights, total, candidates, codes, code_counts)
        values = np.stack([np.log1p(decayed), share, np.log1p(age), np.log1p(long), np.log1p(days), decayed], axis=1)
        _write_attributes(candidates, slots, values, out)
    return out


@kernel
def _write_bought(
    candidates: Int32Array,
    offsets: Int64Array,
    item_row: Int32Array,
    columns: tuple[FloatArray, ...],
    totals: tuple[FloatArray, FloatArray],
    statistics: FloatArray,
    out: FloatArray,
) -> None:
    times, slow, fast, since, decayed, decayed_fast, own_days, visits, days_since, long = columns
    total, total_fast = totals
    for request in range(candidates.shape[0]):
        begin, end = offsets[request], offsets[request + 1]
        group, before = begin, 0
        for column in range(candidates.shape[1]):
            row = candidates[request, column]
            if row < 0:
                continue
            line = out[request, column]
            group = next_place(item_row, begin, end, row, group, before)
            before = row
            if group == end or item_row[group] != row:
                line[3] = _NEVER
                continue
            line[0], line[1], line[2], line[3] = times[group], slow[group], fast[group], since[group]
            line[4] = 1
            line[5] = decayed[group] / (total[request] + np.float32(1))
            line[8] = decayed_fast[group] / (total_fast[request] + np.float32(1))
            gaps, everybodys = visits[group] - np.float32(1), np.expm1(statistics[row, _INTERVAL])
            days = (own_days[group] * gaps + everybodys * _INTERVAL_VISITS) / (gaps + _INTERVAL_VISITS)
            rhythm = max(days, np.float32(1))
            line[9] = min(days_since[group] / rhythm, _SMOOTH_DUE_MAX)
            line[10], line[11] = long[group], np.log1p(days)
            line[12] = min((days_since[group] + _SOON_DAYS) / rhythm, _DUE_SOON_MAX)


@kernel
def _write_others(
    candidates: Int32Array,
    offsets: Int64Array,
    item_row: Int32Array,
    columns: tuple[FloatArray, ...],
    out: FloatArray,
) -> None:
    events, since = columns
    for request in range(candidates.shape[0]):
        begin, end = offsets[request], offsets[request + 1]
        group, before = begin, 0
        for column in range(candidates.shape[1]):
            row = candidates[request, column]
            if row < 0:
                continue
            group = next_place(item_row, begin, end, row, group, before)
            before = row
            out[request, column, 7] = _NEVER
            if group < end and item_row[group] == row:
                out[request, column, 6], out[request, column, 7] = events[group], since[group]


@kernel
def _sum_by_value(
    offsets: Int64Array,
    item_row: Int32Array,
    is_target: BoolArray,
    time_s: Int64Array,
    age_days: FloatArray,
    weights: tuple[FloatArray, FloatArray],
    total: FloatArray,
    candidates: Int32Array,
    codes: Int32Array,
    code_counts: Int64Array,
) -> tuple[Int32Array, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Gives every (request, attribute, value) that was bought a slot; slot 0 stands for all that never were.

    Returns:
        (B, K, A) the slot of each candidate's values; (S,) of each slot the summed weight, its share of the request's
        `total`, the age of its newest event, its visits weighted by the long weight, and the mean days between them,
        to which _VALUE_INTERVAL_VISITS visits every _VALUE_INTERVAL_DAYS are added.
    """
    attribute_count = codes.shape[1]
    slots = np.zeros((*candidates.shape, attribute_count), np.int32)
    room = 1 + len(item_row) * attribute_count
    decayed, share, age = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    long, days, oldest = np.empty(room, np.float32), np.zeros(room, np.float32), np.empty(room, np.float32)
    visits, newest_visit = np.empty(room, np.int32), np.empty(room, np.int32)
    weight, long_weight = weights
    decayed[0], share[0], age[0], long[0] = 0, 0, NEVER_DAYS, 0
    begins = np.cumsum(code_counts) - code_counts
    slot_of = np.zeros(code_counts.sum(), np.int32)  # one attribute's values after the other's
    end = 1
    for request in range(len(offsets) - 1):
        first = end
        visit, visit_s = np.int32(0), np.int64(-1)
        for event in range(offsets[request], offsets[request + 1]):
            if event + AHEAD < len(item_row):
                prefetch(codes, item_row[event + AHEAD])
            if not is_target[event]:
                continue
            visit += np.int32(time_s[event] != visit_s)
            visit_s, row = time_s[event], item_row[event]
            counts, counts_long, days_old = weight[event], long_weight[event], age_days[event]
            for attribute in range(attribute_count):
                value = begins[attribute] + codes[row, attribute]
                slot = slot_of[value]
                if slot < first:  # of an earlier request, or none
                    slot_of[value] = end
                    decayed[end], long[end], visits[end], newest_visit[end] = counts, counts_long, 1, visit
                    oldest[end] = age[end] = days_old
                    end += 1
                    continue
                another_visit = newest_visit[slot] != visit  # added, not branched on: nobody can foretell it
                decayed[slot] += counts
                long[slot] += counts_long if another_visit else np.float32(0)
                visits[slot] += np.int32(another_visit)
                newest_visit[slot] = visit
                age[slot] = days_old  # events ascend in time: the newest stays
        for slot in range(first, end):
            share[slot] = decayed[slot] / (total[request] + np.float32(1))
            known = oldest[slot] - age[slot] + _VALUE_INTERVAL_DAYS * _VALUE_INTERVAL_VISITS
            days[slot] = known / (np.float32(visits[slot] - 1) + _VALUE_INTERVAL_VISITS)
        for column in range(candidates.shape[1]):
            if column + AHEAD < candidates.shape[1]:
                prefetch(codes, candidates[request, column + AHEAD])
            if candidates[request, column] >= 0:
                for attribute in range(attribute_count):
                    slot = slot_of[begins[attribute] + codes[candidates[request, column], attribute]]
                    slots[request, column, attribute] = slot if slot >= first else 0
    return slots, decayed[:end], share[:end], age[:end], long[:end], days[:end]


@kernel
def _write_attributes(candidates: Int32Array, slots: Int32Array, values: FloatArray, out: FloatArray) -> None:
    """`values` (S, 6) of the slots of `_sum_by_value`, to the candidates whose values they are.

    The last is the summed weight; in its place stands the item's own share of it.
    """
    last = _ATTRIBUTE_COUNT - 1
    for request in range(candidates.shape[0]):
        for column in range(candidates.shape[1]):
            if candidates[request, column] < 0:
                continue
            line, own = out[request, column, _ITEM_COUNT:], np.expm1(out[request, column, 1])
            for attribute in range(slots.shape[2]):
                value, begin = values[slots[request, column, attribute]], attribute * _ATTRIBUTE_COUNT
                for part in range(last):
                    line[begin + part] = value[part]
                line[begin + last] = own / (value[last] + np.float32(0.5))
