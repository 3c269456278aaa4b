"""Directed co-occurrence with recency: what users turned to after an item, the sooner the more."""

from __future__ import annotations

import numpy as np

from towers.compiled import kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array
from towers.sources.fits.top_pairs import Float64Array, PairScale, write_top
from towers.sources.item_lists import ItemLists
from towers.sources.log import SourceLog
from towers.sources.settings import BoughtNextSettings


def fit_bought_next(log: SourceLog, settings: BoughtNextSettings) -> ItemLists:
    """The `neighbours` items that follow each most, for how popular they are."""
    log = log.targets() if settings.events == "target" else log
    moment = _moments(log)
    by_item = np.argsort(log.item_row, kind="stable")
    offsets = np.searchsorted(log.item_row[by_item], np.arange(log.item_count + 1)).astype(np.int64)
    popularity = np.bincount(log.item_row, minlength=log.item_count).astype(np.float64)
    scale = PairScale.of(
        popularity**settings.source_exponent, popularity**settings.popularity_exponent, settings.shrinkage
    )
    rows, weights = _top_next(
        offsets,
        by_item.astype(np.int64),
        log.user_row.astype(np.int64),
        log.item_row.astype(np.int32),
        moment,
        _weights_of_distance(settings),
        settings.backward,
        scale.level,
        scale.left,
        scale.right,
        scale.shrinkage,
        settings.neighbours,
    )
    return ItemLists.of_top(rows, weights**settings.power, settings.profile)


def _moments(log: SourceLog) -> Int64Array:
    """(E,) the place of each event's moment among its user's; events of one basket share it."""
    if len(log.user_row) == 0:
        return np.zeros(0, np.int64)
    new = np.ones(len(log.user_row), np.bool_)
    new[1:] = (np.diff(log.user_row) != 0) | (np.diff(log.time_s) != 0)
    moment: Int64Array = np.cumsum(new).astype(np.int64)
    return moment


def _weights_of_distance(settings: BoughtNextSettings) -> FloatArray:
    """(window + 1,) what a pair counts that lies so many moments apart; in one basket as much as at distance 1."""
    distance = np.maximum(np.arange(settings.window + 1), 1).astype(np.float64)
    weight = distance**-settings.distance_power
    if settings.distance_half_life > 0:
        weight *= 0.5 ** ((distance - 1) / settings.distance_half_life)
    return weight.astype(np.float32)


@kernel
def _top_next(
    offsets: Int64Array,
    events_of_item: Int64Array,
    user_row: Int64Array,
    item_row: Int32Array,
    moment: Int64Array,
    weight_of_distance: FloatArray,
    backward: float,
    level: Float64Array,
    scale_left: Float64Array,
    scale_right: Float64Array,
    shrinkage: float,
    k: int,
) -> tuple[Int32Array, FloatArray]:
    """As `top_of_product`; `events_of_item[offsets[i]:offsets[i + 1]]` are the events of item i."""
    count, event_count, window = len(offsets) - 1, len(item_row), len(weight_of_distance) - 1
    rows, worths = np.full((count, k), -1, np.int32), np.zeros((count, k), np.float32)
    sums, touched = np.zeros(count, np.float64), np.empty(count, np.int32)
    for item in range(count):
        end = 0
        for at in range(offsets[item], offsets[item + 1]):
            event = events_of_item[at]
            for direction in (1, -1):
                near = event + direction
                while 0 <= near < event_count and user_row[near] == user_row[event]:
                    distance = abs(moment[near] - moment[event])
                    if distance > window or (direction < 0 and distance > 0 and backward == 0):
                        break
                    other = item_row[near]
                    weight = np.float64(weight_of_distance[distance])
                    if direction < 0 and distance > 0:
                        weight *= backward
                    if weight > 0:
                        if sums[other] == 0:
                            touched[end] = other
                            end += 1
                        sums[other] += weight
                    near += direction
        write_top(item, sums, touched[:end], level, scale_left, scale_right, shrinkage, rows[item], worths[item])
    return rows, worths
