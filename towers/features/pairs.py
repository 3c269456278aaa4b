"""User × item features for the ranker: how this shopper stands to each candidate, as of the request.

Aggregates per (request, item) come from `Purchases`; aggregates per (request, attribute value) are made here, one pass
over the request's purchases.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from towers.compiled import kernel
from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array
from towers.features.purchases import NEVER_DAYS, Purchases, age_in_days, find_row, slow_weight

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
_DUE_MAX = 4.0
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
    bought, others = purchases.groups, purchases.others
    _write_bought(
        candidates,
        bought.offsets,
        bought.item_row,
        purchases.times,
        purchases.decayed_slow,
        purchases.decayed_fast,
        purchases.days_since,
        purchases.interval_days,
        purchases.total,
        out,
    )
    _write_others(candidates, others.offsets, others.item_row, others.events, purchases.others_days_since, out)
    events = (batch.offsets, batch.item_row, batch.time_s, batch.is_target, batch.as_of_s)
    _write_attributes(candidates, *events, purchases.total, codes, code_counts, out)
    return out


@kernel
def _write_bought(
    candidates: Int32Array,
    offsets: Int64Array,
    item_row: Int32Array,
    times: FloatArray,
    slow: FloatArray,
    fast: FloatArray,
    since: FloatArray,
    interval: FloatArray,
    total: FloatArray,
    out: FloatArray,
) -> None:
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
            line[0] = np.log1p(times[group])
            line[1] = np.log1p(slow[group])
            line[2] = np.log1p(fast[group])
            line[3] = np.log1p(since[group])
            line[4] = 1
            line[5] = slow[group] / (total[request] + np.float32(1))
            if times[group] > 1:
                line[6] = min(since[group] / max(interval[group], np.float32(1)), _DUE_MAX)
            line[7] = np.log1p(interval[group])


@kernel
def _write_others(
    candidates: Int32Array,
    offsets: Int64Array,
    item_row: Int32Array,
    events: FloatArray,
    since: FloatArray,
    out: FloatArray,
) -> None:
    for request in range(candidates.shape[0]):
        for column in range(candidates.shape[1]):
            row = candidates[request, column]
            if row < 0:
                continue
            group = find_row(item_row, offsets[request], offsets[request + 1], row)
            if group < 0:
                out[request, column, 9] = _NEVER
            else:
                out[request, column, 8] = np.log1p(events[group])
                out[request, column, 9] = np.log1p(since[group])


@kernel
def _write_attributes(
    candidates: Int32Array,
    offsets: Int64Array,
    item_row: Int32Array,
    time_s: Int64Array,
    is_target: BoolArray,
    as_of_s: Int64Array,
    total: FloatArray,
    codes: Int32Array,
    code_counts: Int64Array,
    out: FloatArray,
) -> None:
    """A slot for each value that the request bought; slot 0 stands for all that it never did."""
    attribute_count = codes.shape[1]
    if attribute_count == 0:
        return
    longest = 0
    for request in range(len(as_of_s)):
        longest = max(longest, offsets[request + 1] - offsets[request])
    slot_of = np.zeros((attribute_count, code_counts.max()), np.int32)
    decayed = np.zeros((attribute_count, longest + 1), np.float64)
    values = np.zeros((attribute_count, longest + 1, _ATTRIBUTE_COUNT), np.float32)
    values[:, 0, 2] = _NEVER
    filled = np.zeros(attribute_count, np.int64)
    for request in range(len(as_of_s)):
        begin, end = offsets[request], offsets[request + 1]
        filled[:] = 0
        for event in range(begin, end):
            if not is_target[event]:
                continue
            age = age_in_days(as_of_s[request], time_s[event])
            weight, log_age, row = slow_weight(age), np.log1p(age), item_row[event]
            for attribute in range(attribute_count):
                value = codes[row, attribute]
                slot = slot_of[attribute, value]
                if slot == 0:
                    filled[attribute] += 1
                    slot = filled[attribute]
                    slot_of[attribute, value] = slot
                    decayed[attribute, slot] = 0
                decayed[attribute, slot] += weight
                values[attribute, slot, 2] = log_age  # the newest event of a value is written last and stays
        for attribute in range(attribute_count):
            for slot in range(1, filled[attribute] + 1):
                values[attribute, slot, 0] = np.log1p(decayed[attribute, slot])
                values[attribute, slot, 1] = decayed[attribute, slot] / (total[request] + np.float32(1))
        for column in range(candidates.shape[1]):
            row = candidates[request, column]
            if row < 0:
                continue
            line = out[request, column, _ITEM_COUNT:]
            for attribute in range(attribute_count):
                slot = slot_of[attribute, codes[row, attribute]]
                for part in range(_ATTRIBUTE_COUNT):
                    line[attribute * _ATTRIBUTE_COUNT + part] = values[attribute, slot, part]
        for event in range(begin, end):
            if is_target[event]:
                for attribute in range(attribute_count):
                    slot_of[attribute, codes[item_row[event], attribute]] = 0
