"""What users of the same segment turn to most, by one or several attributes of theirs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towers.sources.fixed_lists import FixedLists, best_of
from towers.sources.log import SourceLog
from towers.sources.settings import SegmentSettings

_DAY_S = 86_400


def fit_segment(log: SourceLog, settings: SegmentSettings) -> FixedLists:
    """A list of `depth` items for everyone and for each segment of enough users, by the smoothed share of its users.

    Raises ValueError for an attribute that users do not have.
    """
    if strangers := [name for name in settings.attributes if name not in log.user_attributes]:
        raise ValueError(f"sources.segment.attributes: users have no {strangers}; they have {log.user_attributes}")
    columns = np.array([log.user_attributes.index(name) for name in settings.attributes], np.int64)
    user, item = _recent_pairs(log, settings)
    everyone = _share(item, len(np.unique(user)), log.item_count)
    lists, codes = [best_of(everyone, settings.depth)], []
    segment, found = _segments(log.users[:, columns])
    for place, line in enumerate(found):
        mine = segment[user] == place
        users = len(np.unique(user[mine]))
        if users >= settings.users_min and len(columns):
            counts = np.bincount(item[mine], minlength=log.item_count)
            share = (counts + settings.smoothing * everyone) / (users + settings.smoothing)
            lists.append(best_of(share, settings.depth))
            codes.append(line)
    rows = np.stack([line[0] for line in lists])
    weights = np.stack([line[1] for line in lists])
    known = np.array(codes, np.int32).reshape(len(codes), len(columns))
    return FixedLists.of_top(rows, weights, log.item_count, columns, known)


def _recent_pairs(log: SourceLog, settings: SegmentSettings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(P,) users and items of the distinct pairs that count."""
    log = log.targets() if settings.events == "target" else log
    begin_s = log.until_s - settings.window_days * _DAY_S
    recent = log.time_s >= begin_s if settings.window_days else np.ones(len(log.time_s), np.bool_)
    count = max(log.item_count, 1)
    pairs = np.unique(log.user_row[recent].astype(np.int64) * count + log.item_row[recent])
    return pairs // count, pairs % count


def _segments(codes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(U,) the segment of each user, -1 where a code is unknown (0); (S, C) the codes of each segment, ascending."""
    segment = np.full(len(codes), -1, np.int64)
    known = (codes > 0).all(axis=1)
    found, segment[known] = np.unique(codes[known], axis=0, return_inverse=True)
    return segment, found


def _share(item: NDArray[np.int64], user_count: int, item_count: int) -> NDArray[np.float64]:
    return np.bincount(item, minlength=item_count) / max(user_count, 1)
