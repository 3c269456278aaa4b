"""Reference · histories: what the requests of a batch can see of their users' events, in plain numpy.

This folder is the whole path from histories to lists as one writes it first: vectorised numpy, eager float32 torch, the
ranker unsplit. It shares data structures and trained modules with the product, and no computation: it is what the
product's kernels are tested against, and what the benchmarks call `plain`.
"""

from __future__ import annotations

import numpy as np

from towers.features.histories import BoolArray, FloatArray, Histories, HistoryBatch, Int32Array, Int64Array

_DAY_S = np.float32(86_400)


def logged_histories(log: Histories, user_rows: Int32Array, as_of_s: Int64Array, kind_count_max: int) -> HistoryBatch:
    """The logged events of B users, each strictly before its request.

    Args:
        log: the events of all users.
        user_rows: (B,) rows of the log, -1 for somebody unknown. as_of_s: (B,) the requests' times.
        kind_count_max: of the target events, and of the others, so many of the newest are kept for each request.
    """
    known = np.maximum(user_rows, 0)
    start = log.offsets[known]
    counts = np.where(user_rows >= 0, log.offsets[known + 1] - start, 0)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    index = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], counts)
    event_type = log.event_type[index]
    is_goal = np.zeros(256, np.bool_)
    is_goal[list(log.target_types)] = True
    past = HistoryBatch(offsets, log.item_row[index], event_type, log.time_s[index], is_goal[event_type], as_of_s)
    seen = past.time_s < np.repeat(as_of_s, counts)
    if not seen.all():
        past = keep(past, seen)
    if len(counts) == 0 or np.diff(past.offsets).max() <= kind_count_max:
        return past
    targets, others = _newest(past, past.is_target, kind_count_max), _newest(past, ~past.is_target, kind_count_max)
    return keep(past, targets | others)


def request_of_event(batch: HistoryBatch) -> Int64Array:
    """(E,) which request each event belongs to."""
    return np.repeat(np.arange(len(batch.as_of_s), dtype=np.int64), np.diff(batch.offsets))


def age_days(batch: HistoryBatch) -> FloatArray:
    """(E,) how old each event is at its request; not below 0."""
    age_s: FloatArray = np.maximum(batch.as_of_s[request_of_event(batch)] - batch.time_s, 0).astype(np.float32)
    return age_s / _DAY_S


def keep(batch: HistoryBatch, kept: BoolArray) -> HistoryBatch:
    """The same requests, with those events only for which `kept` (E,) is true."""
    before = np.concatenate([[0], np.cumsum(kept)])
    return HistoryBatch(
        before[batch.offsets],
        batch.item_row[kept],
        batch.event_type[kept],
        batch.time_s[kept],
        batch.is_target[kept],
        batch.as_of_s,
    )


def newest(batch: HistoryBatch, event_count_max: int) -> HistoryBatch:
    """The same requests, each with so many of its newest events."""
    if len(batch.as_of_s) == 0 or np.diff(batch.offsets).max() <= event_count_max:
        return batch
    return keep(batch, _newest(batch, np.ones(len(batch.item_row), np.bool_), event_count_max))


def _newest(batch: HistoryBatch, kind: BoolArray, event_count_max: int) -> BoolArray:
    """(E,) whether an event is of the kind and among the newest so many of it in its request."""
    before = np.concatenate([[0], np.cumsum(kind)])
    from_here_on = np.repeat(before[batch.offsets[1:]], np.diff(batch.offsets)) - before[:-1]
    chosen: BoolArray = kind & (from_here_on <= event_count_max)
    return chosen
