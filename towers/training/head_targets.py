"""What the ranker's further heads learn of each candidate of a cut: repeat purchases, money and ratings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.features.histories import BoolArray, FloatArray, Int64Array
from towers.learning_data import LearningData
from towers.schema import ConfigError


def further_targets(
    data: LearningData,
    heads: Iterable[str],
    candidate: Int64Array,
    label: BoolArray,
    begin_s: int,
    end_s: int,
) -> dict[str, FloatArray]:
    """By head, of candidates asked at `begin_s` and judged until `end_s`.

    Args:
        data: the log. heads: those of the ranker; "buys" is `label` itself and left out.
        candidate: (n,) keys user · items + item. label: (n,) whether each was bought in between.

    Returns:
        (n,) float32: "buys_again" 1 for what was bought in between and before, too; "value" log1p of the money spent in
        between, 0 where nothing was bought; "rating" the mean of the ratings given in between, NaN without one.
    """
    before = _targets(data) & (data.histories.time_s < begin_s)
    makers: dict[str, Callable[[], NDArray[Any]]] = {
        "buys_again": lambda: label & np.isin(candidate, _keys(data, before)),
        "value": lambda: np.log1p(_money(data, candidate, begin_s, end_s)),
        "rating": lambda: _ratings(data, candidate, begin_s, end_s),
    }
    return {name: makers[name]().astype(np.float32) for name in heads if name in makers}


def check_heads(data: LearningData, heads: Iterable[str]) -> None:
    """Raises ConfigError for a head that the log cannot teach: money without values, ratings without ratings."""
    for head, column in (("value", data.value), ("rating", data.rating)):
        if head in heads and (column is None or np.isnan(column).all()):
            raise ConfigError(f"ranker.heads.{head} is above 0, but no event has a {head}; set it to 0")


def _money(data: LearningData, candidate: Int64Array, begin_s: int, end_s: int) -> NDArray[np.float64]:
    assert data.value is not None
    chosen = _targets(data) & _between(data, begin_s, end_s) & ~np.isnan(data.value)
    total, _ = _sums(_keys(data, chosen), np.maximum(data.value[chosen], 0), candidate)
    return total


def _ratings(data: LearningData, candidate: Int64Array, begin_s: int, end_s: int) -> NDArray[np.float64]:
    assert data.rating is not None
    chosen = _between(data, begin_s, end_s) & ~np.isnan(data.rating)
    total, count = _sums(_keys(data, chosen), data.rating[chosen], candidate)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _targets(data: LearningData) -> BoolArray:
    return data.histories.is_target(data.histories.event_type)


def _between(data: LearningData, begin_s: int, end_s: int) -> BoolArray:
    time_s = data.histories.time_s
    return (time_s >= begin_s) & (time_s < end_s)


def _keys(data: LearningData, chosen: BoolArray) -> Int64Array:
    """user · items + item of the chosen events."""
    log = data.histories
    user = np.repeat(np.arange(log.user_count, dtype=np.int64), np.diff(log.offsets))
    return user[chosen] * data.item_count + log.item_row[chosen]


def _sums(key: Int64Array, amount: FloatArray, wanted: Int64Array) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each wanted key (n,) the sum of its amounts and their number; 0 where it has none."""
    if not len(key):
        return np.zeros(len(wanted)), np.zeros(len(wanted), np.int64)
    names, group = np.unique(key, return_inverse=True)
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    found = names[place] == wanted
    total, count = np.bincount(group, weights=amount), np.bincount(group)
    return np.where(found, total[place], 0.0), np.where(found, count[place], 0)
