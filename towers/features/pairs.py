"""User × item features for the ranker: how this shopper stands to each candidate, as of the request.

Aggregates per (request, item) come from `Purchases`; aggregates per (request, attribute value) are made here, one pass
over the request's purchases.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array
from towers.features.purchases import NEVER_DAYS, Purchases, find_row

ITEM_FEATURES = (
    "log_times",
    "log_decayed_slow",
    "log_decayed_fast",
    "log_days_since",
    "ever",
    "share",
    "due_ratio",
    "log_interval_days",
    "log_other_events",
    "log_days_since_other",
)
ATTRIBUTE_FEATURES = ("log_decayed", "share", "log_days_since")
_NEVER = np.float32(np.log1p(NEVER_DAYS))
_DUE_MAX = np.float32(4)
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
    further: int = 0,
) -> FloatArray:
    """Features of every candidate of every request.

    Args:
        batch: the histories of B requests.
        purchases: the aggregates of the same batch.
        candidates: (B, K) item rows; -1 pads, whose features are 0.
        codes: (items, A) value codes of the affinity attributes.
        code_counts: (A,) codes of attribute a are below code_counts[a].
        further: columns to leave room for behind those of `pair_feature_names`, 0 for now.

    Returns:
        (B, K, P + further) float32, columns as `pair_feature_names` says.
    """
    out = np.zeros((*candidates.shape, _ITEM_COUNT + _ATTRIBUTE_COUNT * codes.shape[1] + further), np.float32)
    bought, others, total = purchases.groups, purchases.others, purchases.total
    due = np.minimum(purchases.days_since / np.maximum(purchases.interval_days, 1), _DUE_MAX)
    of_bought = (
        np.log1p(purchases.times),
        np.log1p(purchases.decayed_slow),
        np.log1p(purchases.decayed_fast),
        np.log1p(purchases.days_since),
        purchases.decayed_slow,
        np.where(purchases.times > 1, due, np.float32(0)),
        np.log1p(purchases.interval_days),
    )
    _write_bought(candidates, bought.offsets, bought.item_row, of_bought, total, out)
    of_others = (np.log1p(others.events), np.log1p(purchases.others_days_since))
    _write_others(candidates, others.offsets, others.item_row, of_others, out)
    if codes.shape[1]:
        targets = (batch.offsets, batch.item_row, batch.is_target)
        slots, decayed, share, age = _sum_by_value(
            *targets, purchases.weight, purchases.age_days, total, codes, code_counts
        )
        values = np.stack([np.log1p(decayed), share, np.log1p(age)], axis=1)
        _write_attributes(candidates, *targets, slots, values, codes, code_counts, out)
    return out


@kernel
def _write_bought(
    candidates: Int32Array,
    offsets: Int64Array,
    item_row: Int32Array,
    columns: tuple[FloatArray, ...],
    total: FloatArray,
    out: FloatArray,
) -> None:
    times, slow, fast, since, decayed, due, interval = columns
    for request in range(candidates.shape[0]):
        for column in range(candidates.shape[1]):
            row = candidates[request, column]
            if row < 0:
                continue
            line = out[request, column]
            group = find_row(item_row, offsets[request], offsets[request + 1], row)
            if group < 0:
                line[3], line[7] = _NEVER, _NEVER
                continue
            line[0], line[1], line[2], line[3] = times[group], slow[group], fast[group], since[group]
            line[4] = 1
            line[5] = decayed[group] / (total[request] + np.float32(1))
            line[6], line[7] = due[group], interval[group]


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
        for column in range(candidates.shape[1]):
            row = candidates[request, column]
            if row < 0:
                continue
            group = find_row(item_row, offsets[request], offsets[request + 1], row)
            out[request, column, 9] = _NEVER
            if group >= 0:
                out[request, column, 8], out[request, column, 9] = events[group], since[group]


@kernel
def _sum_by_value(
    offsets: Int64Array,
    item_row: Int32Array,
    is_target: BoolArray,
    weight: FloatArray,
    age_days: FloatArray,
    total: FloatArray,
    codes: Int32Array,
    code_counts: Int64Array,
) -> tuple[Int32Array, FloatArray, FloatArray, FloatArray]:
    """Gives every (request, attribute, value) that was bought a slot; slot 0 stands for all that never were.

    Returns:
        (E, A) the slot of each target event's values; (S,) of each slot the summed weight, its share of the request's
        `total`, and the age of its newest event.
    """
    attribute_count = codes.shape[1]
    slots = np.zeros((len(item_row), attribute_count), np.int32)
    room = 1 + len(item_row) * attribute_count
    decayed, share, age = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    decayed[0], share[0], age[0] = 0, 0, NEVER_DAYS
    slot_of = np.zeros((attribute_count, code_counts.max()), np.int32)
    end = 1
    for request in range(len(offsets) - 1):
        first = end
        for event in range(offsets[request], offsets[request + 1]):
            if not is_target[event]:
                continue
            for attribute in range(attribute_count):
                value = codes[item_row[event], attribute]
                slot = slot_of[attribute, value]
                if slot < first:  # of an earlier request, or none
                    slot = end
                    slot_of[attribute, value] = slot
                    decayed[slot] = 0
                    end += 1
                slots[event, attribute] = slot
                decayed[slot] += weight[event]
                age[slot] = age_days[event]  # events ascend in time: the newest stays
        for slot in range(first, end):
            share[slot] = decayed[slot] / (total[request] + np.float32(1))
    return slots, decayed[:end], share[:end], age[:end]


@kernel
def _write_attributes(
    candidates: Int32Array,
    offsets: Int64Array,
    item_row: Int32Array,
    is_target: BoolArray,
    slots: Int32Array,
    values: FloatArray,
    codes: Int32Array,
    code_counts: Int64Array,
    out: FloatArray,
) -> None:
    """`values` (S, 3) of the slots of `_sum_by_value`, to the candidates whose values they are."""
    attribute_count = codes.shape[1]
    slot_of = np.zeros((attribute_count, code_counts.max()), np.int32)
    for request in range(candidates.shape[0]):
        for event in range(offsets[request], offsets[request + 1]):
            if is_target[event]:
                for attribute in range(attribute_count):
                    slot_of[attribute, codes[item_row[event], attribute]] = slots[event, attribute]
        for column in range(candidates.shape[1]):
            row = candidates[request, column]
            if row < 0:
                continue
            line = out[request, column, _ITEM_COUNT:]
            for attribute in range(attribute_count):
                value = values[slot_of[attribute, codes[row, attribute]]]
                for part in range(_ATTRIBUTE_COUNT):
                    line[attribute * _ATTRIBUTE_COUNT + part] = value[part]
        for event in range(offsets[request], offsets[request + 1]):
            for attribute in range(attribute_count):
                slot_of[attribute, codes[item_row[event], attribute]] = 0
