"""User × item features for the ranker: how this shopper stands to each candidate, as of the request.

No loop over items, users or candidates: aggregates per (request, item) come from `Purchases`, aggregates per
(request, attribute value) from counting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from towers.features.histories import FloatArray, HistoryBatch, Int32Array
from towers.features.purchases import NEVER_DAYS, ItemGroups, Purchases

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
_NOTHING = np.float32(0)


def pair_feature_names(attributes: Iterable[str]) -> tuple[str, ...]:
    """The columns of `pair_features`, in order."""
    return ITEM_FEATURES + tuple(f"{name}_{part}" for name in attributes for part in ATTRIBUTE_FEATURES)


def pair_features(
    batch: HistoryBatch,
    purchases: Purchases,
    candidates: Int32Array,
    attributes: Mapping[str, Int32Array],
) -> FloatArray:
    """Features of every candidate of every request.

    Args:
        batch: the histories of B requests.
        purchases: the aggregates of the same batch.
        candidates: (B, K) item rows; -1 pads, whose features mean nothing.
        attributes: for each affinity attribute the value code of each item, (items,) int32.

    Returns:
        (B, K, P) float32, columns as `pair_feature_names` says.
    """
    rows = np.maximum(candidates, 0)
    columns = _bought_columns(purchases, rows)
    columns += _other_columns(batch, rows, purchases.groups.item_count)
    for codes in attributes.values():
        columns += _attribute_columns(purchases, codes, rows)
    return np.stack(columns, axis=2)


def _bought_columns(purchases: Purchases, rows: Int32Array) -> list[FloatArray]:
    place, found = purchases.groups.find(rows)
    zero = np.zeros(rows.shape, np.float32)
    if len(purchases.groups.key) == 0:
        return [zero, zero, zero, zero + _NEVER, zero, zero, zero, zero + _NEVER]
    due = np.minimum(purchases.days_since / np.maximum(purchases.interval_days, 1), 4)

    def at(values: FloatArray, otherwise: np.float32) -> FloatArray:
        return np.where(found, values[place], otherwise).astype(np.float32)

    return [
        at(np.log1p(purchases.times), _NOTHING),
        at(np.log1p(purchases.decayed_slow), _NOTHING),
        at(np.log1p(purchases.decayed_fast), _NOTHING),
        at(np.log1p(purchases.days_since), _NEVER),
        found.astype(np.float32),
        at(purchases.decayed_slow, _NOTHING) / (purchases.total[:, None] + np.float32(1)),
        at(np.where(purchases.times > 1, due, _NOTHING), _NOTHING),
        at(np.log1p(purchases.interval_days), _NEVER),
    ]


def _other_columns(batch: HistoryBatch, rows: Int32Array, item_count: int) -> list[FloatArray]:
    if batch.is_target.all():
        return [np.zeros(rows.shape, np.float32), np.full(rows.shape, _NEVER)]
    others = batch.keep(~batch.is_target)
    groups = ItemGroups.of(others, item_count)
    place, found = groups.find(rows)
    count = (groups.end - groups.start + 1).astype(np.float32)
    since = others.age_days[groups.order][groups.end]
    return [
        np.where(found, np.log1p(count)[place], _NOTHING),
        np.where(found, np.log1p(since)[place], _NEVER),
    ]


def _attribute_columns(purchases: Purchases, codes: Int32Array, rows: Int32Array) -> list[FloatArray]:
    targets = purchases.targets
    request_count, value_count = len(targets), int(codes.max(initial=0)) + 1
    key = targets.request_of_event * value_count + codes[targets.item_row]
    decayed = np.bincount(key, weights=purchases.weight, minlength=request_count * value_count).astype(np.float32)
    since = np.full(request_count * value_count, np.float32(NEVER_DAYS))
    since[key] = purchases.age_days  # the newest event of a value is written last and stays
    place = np.arange(request_count, dtype=np.int64)[:, None] * value_count + codes[rows]  # (B, K)
    at = decayed[place]
    return [np.log1p(at), at / (purchases.total[:, None] + np.float32(1)), np.log1p(since[place])]
