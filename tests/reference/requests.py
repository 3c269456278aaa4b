"""Reference · requests: the user tower's inputs, in plain numpy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tests.reference.histories import age_days, newest, request_of_event
from tests.reference.purchases import NEVER_DAYS
from towers.features.histories import FloatArray, HistoryBatch, Int64Array
from towers.models.user_tower import RequestTensors

GAP_BUCKETS = 16
_FIRST_GAP_S = 900
_HOUR_S, _DAY_S = 3_600, 86_400
_THURSDAY = 3  # of 1970-01-01, counted from Monday


def request_tensors(
    batch: HistoryBatch,
    sequence_events_max: int,
    user_bucket: NDArray[np.int32],
    user_attribute: NDArray[np.int32],
    context: NDArray[np.int32],
) -> RequestTensors:
    """What the user tower reads of B requests: the newest events right-aligned, the time, and ten numbers."""
    recent = newest(batch, sequence_events_max)
    shape = (len(batch.as_of_s), sequence_events_max)
    item_row, event_type, gap = np.full(shape, -1, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    request = request_of_event(recent)
    column = sequence_events_max - (recent.offsets[request + 1] - np.arange(len(request)))
    item_row[request, column] = recent.item_row
    event_type[request, column] = recent.event_type
    gap_s = np.maximum(recent.as_of_s[request] - recent.time_s, 0)
    gap[request, column] = np.clip(np.log2(gap_s / _FIRST_GAP_S + 1), 0, GAP_BUCKETS - 1).astype(np.int64)
    hour = (batch.as_of_s // _HOUR_S) % 24
    weekday = (batch.as_of_s // _DAY_S + _THURSDAY) % 7
    return RequestTensors(
        item_row=torch.from_numpy(item_row),
        event_type=torch.from_numpy(event_type),
        gap_bucket=torch.from_numpy(gap),
        hour=torch.from_numpy(hour),
        weekday=torch.from_numpy(weekday),
        feature=torch.from_numpy(request_features(batch, hour, weekday)),
        user_bucket=torch.from_numpy(user_bucket.astype(np.int64)),
        user_attribute=torch.from_numpy(user_attribute.astype(np.int64)),
        context=torch.from_numpy(context.astype(np.int64)),
    )


def request_features(batch: HistoryBatch, hour: Int64Array, weekday: Int64Array) -> FloatArray:
    """(B, 10) float32: how much, how lately, how varied, and the time as two angles."""
    request, count = request_of_event(batch), len(batch.as_of_s)
    events = np.diff(batch.offsets)
    since = np.full(count, NEVER_DAYS, np.float32)
    since[request] = age_days(batch)  # events ascend, so the newest is written last
    items, visits = _distinct(request, batch.item_row, count), _distinct(request, batch.time_s, count)
    of_day, of_week = 2 * np.pi * hour / 24, 2 * np.pi * weekday / 7
    columns = [
        np.log1p(events),
        np.log1p(since),
        np.log1p(items),
        np.log1p(visits),
        items / np.maximum(events, 1),
        np.log1p(events / np.maximum(visits, 1)),
        np.sin(of_day),
        np.cos(of_day),
        np.sin(of_week),
        np.cos(of_week),
    ]
    return np.stack([column.astype(np.float32) for column in columns], axis=1)


def _distinct(request: Int64Array, value: NDArray[np.integer], request_count: int) -> Int64Array:
    """(B,) number of different values among each request's events."""
    if len(value) == 0:
        return np.zeros(request_count, np.int64)
    low = int(value.min())
    width = int(value.max()) - low + 1
    return np.bincount(np.unique(request * width + (value - low)) // width, minlength=request_count)
