"""Trending items: those that more distinct users turn to in the last days than the days before would have it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towers.sources.fixed_lists import FixedLists, best_of
from towers.sources.log import SourceLog
from towers.sources.settings import TrendingSettings

_DAY_S = 86_400


def fit_trending(log: SourceLog, settings: TrendingSettings) -> FixedLists:
    """The `depth` items of the steepest rise, in deviations of what was to be expected (smoothed)."""
    log = log.targets() if settings.events == "target" else log
    turn_s = log.until_s - settings.window_days * _DAY_S
    begin_s = turn_s - settings.before_days * _DAY_S
    lately = _distinct_users(log, turn_s, log.until_s)
    expected = _distinct_users(log, begin_s, turn_s) * (settings.window_days / settings.before_days)
    rise = (lately - expected) / np.sqrt(expected + settings.smoothing)
    return FixedLists.of_everyone(*best_of(rise, settings.depth), log.item_count)


def _distinct_users(log: SourceLog, begin_s: int, end_s: int) -> NDArray[np.float64]:
    """(n,) distinct users of each item in a span of time."""
    inside = (log.time_s >= begin_s) & (log.time_s < end_s)
    count = max(log.item_count, 1)
    pairs = np.unique(log.user_row[inside].astype(np.int64) * count + log.item_row[inside])
    return np.bincount(pairs % count, minlength=log.item_count).astype(np.float64)
