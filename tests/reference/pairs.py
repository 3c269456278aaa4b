"""Reference · pairs: what the ranker reads of each user and candidate, in plain numpy."""

from __future__ import annotations

import numpy as np

from tests.reference.histories import age_days, keep, request_of_event
from tests.reference.purchases import NEVER_DAYS, Bought, Groups
from towers.candidates import SOURCE_BITS, Candidates, ItemTable
from towers.features.histories import FloatArray, HistoryBatch, Int32Array
from towers.features.item_statistics import STATISTIC_NAMES

_NEVER = np.log1p(NEVER_DAYS)
_NOTHING, _ONE = np.float32(0), np.float32(1)


def pair_inputs(
    batch: HistoryBatch, bought: Bought, candidates: Candidates, user_vectors: FloatArray, items: ItemTable
) -> FloatArray:
    """(B, K, P) float32, columns as `towers.ranking.pair_input_names`; what stands at padded places means nothing."""
    rows = np.maximum(candidates.rows, 0)
    columns = [*_of_purchases(bought, rows), *_of_other_events(batch, rows, bought.groups.item_count)]
    columns += _of_rhythm(bought, rows, items.statistics)
    for codes, value_count in zip(items.affinity.T, items.affinity_counts.tolist(), strict=True):
        columns += _of_attribute(bought, codes, value_count, rows)
    columns.append(np.einsum("bkd,bd->bk", items.vectors[rows], user_vectors))
    columns += [((candidates.sources & np.uint8(bit)) > 0).astype(np.float32) for bit in SOURCE_BITS]
    return np.stack(columns, axis=2)


def _of_purchases(bought: Bought, rows: Int32Array) -> list[FloatArray]:
    """Six columns (B, K): what the shopper bought of this very item."""
    place, found = bought.groups.find(rows)
    zero, never = np.zeros(rows.shape, np.float32), np.full(rows.shape, _NEVER)
    if len(bought.groups.key) == 0:
        return [zero, zero, zero, never, zero, zero]

    def column(values: FloatArray, absent: np.float32) -> FloatArray:
        return np.where(found, values[place], absent)

    return [
        column(np.log1p(bought.times), _NOTHING),
        column(np.log1p(bought.decayed_slow), _NOTHING),
        column(np.log1p(bought.decayed_fast), _NOTHING),
        column(np.log1p(bought.days_since), _NEVER),
        found.astype(np.float32),
        column(bought.decayed_slow, _NOTHING) / (bought.total[:, None] + _ONE),
    ]


def _of_rhythm(bought: Bought, rows: Int32Array, statistics: FloatArray) -> list[FloatArray]:
    """Five columns (B, K): the share of the last weeks, how due it is, the long weight, its interval, how due soon.

    In the interval everybody's counts twice.
    """
    place, found = bought.groups.find(rows)
    if len(bought.groups.key) == 0:
        return [np.zeros(rows.shape, np.float32)] * 5
    gaps = bought.times - 1
    span = np.where(gaps > 0, bought.interval_days * gaps, 0)
    everybodys = np.expm1(statistics[rows, STATISTIC_NAMES.index("log_interval_days")])
    days = (span[place] + 2 * everybodys) / (gaps[place] + 2)
    since, at_least_1 = bought.days_since[place], np.maximum(days, 1)
    due, due_soon = np.minimum(since / at_least_1, 6), np.minimum((since + 30) / at_least_1, 8)
    return [
        np.where(found, bought.decayed_fast[place], 0) / (bought.total_fast[:, None] + _ONE),
        *(
            np.where(found, values, 0).astype(np.float32)
            for values in (due, np.log1p(bought.decayed_long[place]), np.log1p(days), due_soon)
        ),
    ]


def _of_other_events(batch: HistoryBatch, rows: Int32Array, item_count: int) -> list[FloatArray]:
    """Two columns (B, K): how many events that are no goal, such as views, and how long ago."""
    if batch.is_target.all():
        return [np.zeros(rows.shape, np.float32), np.full(rows.shape, _NEVER)]
    others = keep(batch, ~batch.is_target)
    groups = Groups.of(others, item_count)
    place, found = groups.find(rows)
    count = (groups.end - groups.start + 1).astype(np.float32)
    since = age_days(others)[groups.order[groups.end]]
    return [
        np.where(found, np.log1p(count)[place], _NOTHING),
        np.where(found, np.log1p(since)[place], _NEVER),
    ]


def _of_attribute(bought: Bought, codes: Int32Array, value_count: int, rows: Int32Array) -> list[FloatArray]:
    """Six columns (B, K): what the shopper bought of items with the same value of one attribute."""
    targets, cell_count = bought.targets, len(rows) * value_count
    cell = request_of_event(targets) * value_count + codes[targets.item_row]
    decayed = np.bincount(cell, weights=bought.weight, minlength=cell_count).astype(np.float32)
    since = np.full(cell_count, NEVER_DAYS)
    since[cell] = bought.age_days  # events ascend, so the newest is written last
    asked = np.arange(len(rows), dtype=np.int64)[:, None] * value_count + codes[rows]
    at = decayed[asked]
    long, days = np.zeros(cell_count), np.zeros(cell_count)
    for one in np.unique(cell):
        _, first = np.unique(targets.time_s[cell == one], return_index=True)
        long[one] = bought.long_weight[cell == one][first].sum()
        days[one] = (np.ptp(bought.age_days[cell == one]) + 2 * 30) / (len(first) - 1 + 2)
    place, found = bought.groups.find(rows)
    own = np.where(found, bought.decayed_slow[place], 0) if len(bought.groups.key) else np.zeros(rows.shape)
    return [
        np.log1p(at),
        at / (bought.total[:, None] + _ONE),
        np.log1p(since[asked]),
        np.log1p(long[asked]).astype(np.float32),
        np.log1p(days[asked]).astype(np.float32),
        (own / (at + 0.5)).astype(np.float32),
    ]
