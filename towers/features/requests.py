"""What the models see of a request: its time, the shopper's activity, and the newest events as a sequence.

All relative to the request's own time, so that a replayed request sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towers.features.histories import FloatArray, HistoryBatch, Int64Array
from towers.features.purchases import NEVER_DAYS

REQUEST_FEATURES = (
    "log_events",
    "log_days_since_last",
    "log_distinct_items",
    "log_visits",
    "distinct_share",
    "log_events_per_visit",
    "hour_sin",
    "hour_cos",
    "weekday_sin",
    "weekday_cos",
)
GAP_BUCKETS = 16
_DAY_S = 86_400
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0


@dataclass(frozen=True, slots=True)
class RequestArrays:
    """B requests as the user tower and the ranker read them.

    Attributes:
        item_row: (B, N) rows of the newest events, newest last, padded in front with -1.
        event_type: (B, N) uint8 type codes, 0 where padded.
        gap_bucket: (B, N) int64, log2 bucket of the seconds between event and request.
        hour: (B,) 0 … 23 UTC. weekday: (B,) 0 … 6, Monday first.
        feature: (B, len(REQUEST_FEATURES)) float32.
        user_bucket: (B,) hash bucket, 0 for an unknown user.
        user_attribute: (B, A) codes, 0 unseen.
        context: (B, C) codes of the declared context columns, 0 unseen or not sent.
    """

    item_row: NDArray[np.int32]
    event_type: NDArray[np.uint8]
    gap_bucket: NDArray[np.int64]
    hour: Int64Array
    weekday: Int64Array
    feature: FloatArray
    user_bucket: NDArray[np.int32]
    user_attribute: NDArray[np.int32]
    context: NDArray[np.int32]


def request_arrays(
    batch: HistoryBatch,
    sequence_events_max: int,
    user_bucket: NDArray[np.int32],
    user_attribute: NDArray[np.int32],
    context: NDArray[np.int32],
) -> RequestArrays:
    """Builds the arrays of B requests from their histories; `user_bucket`, `user_attribute`, `context` pass through."""
    item_row, event_type, gap_bucket = _sequence(batch.last(sequence_events_max), sequence_events_max)
    hour = (batch.as_of_s // 3_600) % 24
    weekday = (batch.as_of_s // _DAY_S + _EPOCH_WEEKDAY) % 7
    return RequestArrays(
        item_row=item_row,
        event_type=event_type,
        gap_bucket=gap_bucket,
        hour=hour,
        weekday=weekday,
        feature=_request_features(batch, hour, weekday),
        user_bucket=user_bucket,
        user_attribute=user_attribute,
        context=context,
    )


def _sequence(newest: HistoryBatch, length: int) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Right-aligned (B, N) arrays of the newest events."""
    item_row = np.full((len(newest), length), -1, np.int32)
    event_type = np.zeros((len(newest), length), np.uint8)
    gap_bucket = np.zeros((len(newest), length), np.int64)
    request = newest.request_of_event
    column = np.arange(len(newest.item_row)) - newest.offsets[request + 1] + length
    item_row[request, column] = newest.item_row
    event_type[request, column] = newest.event_type
    gap_s = np.maximum(newest.as_of_s[request] - newest.time_s, 0)
    # Bucket b begins at 15 · (2^b - 1) minutes: 0, 15 min, 45 min, … 341 days, which is the last one.
    gap_bucket[request, column] = np.clip(np.log2(gap_s / 900 + 1), 0, GAP_BUCKETS - 1).astype(np.int64)
    return item_row, event_type, gap_bucket


def _request_features(batch: HistoryBatch, hour: Int64Array, weekday: Int64Array) -> FloatArray:
    request_count = len(batch)
    events = np.diff(batch.offsets)
    request = batch.request_of_event
    newest = np.full(request_count, NEVER_DAYS, np.float32)
    newest[request] = batch.age_days  # ascending times: the newest event is written last and stays
    distinct = _distinct(request, batch.item_row, request_count)
    visits = _distinct(request, batch.time_s, request_count)
    hour_angle, weekday_angle = 2 * np.pi * hour / 24, 2 * np.pi * weekday / 7
    columns = (
        np.log1p(events),
        np.log1p(newest),
        np.log1p(distinct),
        np.log1p(visits),
        distinct / np.maximum(events, 1),
        np.log1p(events / np.maximum(visits, 1)),
        np.sin(hour_angle),
        np.cos(hour_angle),
        np.sin(weekday_angle),
        np.cos(weekday_angle),
    )
    return np.stack([column.astype(np.float32) for column in columns], axis=1)  # (B, R)


def _distinct(request: Int64Array, value: NDArray[np.integer], request_count: int) -> Int64Array:
    """(B,) how many distinct values each request's events have."""
    if len(value) == 0:
        return np.zeros(request_count, np.int64)
    low = int(value.min())
    pairs = np.unique(request * (int(value.max()) - low + 1) + (value - low))
    return np.bincount(pairs // (int(value.max()) - low + 1), minlength=request_count)
