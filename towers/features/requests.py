"""What the models see of a request: its time, the shopper's activity, and the newest events as a sequence.

All relative to the request's own time, so that a replayed request sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import FloatArray, HistoryBatch, Int32Array, Int64Array, UInt8Array
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
CLOCK_FEATURES = frozenset({"hour_sin", "hour_cos", "weekday_sin", "weekday_cos"})
GapsTo = Literal["request", "next"]
GAP_BUCKETS = 16
_GAP_UNIT_S = 900
_HASH_FACTOR = 2_654_435_761  # 2^32 over the golden ratio: neighbouring rows land far apart
_FEATURE_COUNT = len(REQUEST_FEATURES)
_DAY_S = 86_400
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0


@dataclass(frozen=True, slots=True)
class RequestArrays:
    """B requests as the user tower and the ranker read them.

    Attributes:
        item_row: (B, N) rows of the newest events, newest last, padded in front with -1.
        event_type: (B, N) uint8 type codes, 0 where padded.
        gap_bucket: (B, N) int64, log2 bucket of the seconds between event and request, or between the event and what
            followed it, which for the newest event is the request.
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

    def take(self, rows: Int64Array) -> RequestArrays:
        """The requests of the given rows (m,)."""
        return RequestArrays(*(getattr(self, name)[rows] for name in RequestArrays.__slots__))


def request_arrays(
    batch: HistoryBatch,
    sequence_events_max: int,
    user_bucket: NDArray[np.int32],
    user_attribute: NDArray[np.int32],
    context: NDArray[np.int32],
    gaps_to: GapsTo = "request",
) -> RequestArrays:
    """Builds the arrays of B requests from their histories; `user_bucket`, `user_attribute`, `context` pass through."""
    events = (batch.offsets, batch.item_row, batch.event_type, batch.time_s, batch.as_of_s)
    item_row, event_type, gap_bucket, hour, weekday, feature = _arrays(*events, sequence_events_max, gaps_to == "next")
    return RequestArrays(item_row, event_type, gap_bucket, hour, weekday, feature, user_bucket, user_attribute, context)


@kernel
def gap_buckets(gap_s: Int64Array) -> Int64Array:
    """(n,) the bucket of each gap in seconds; a negative one counts as none."""
    buckets = np.empty(len(gap_s), np.int64)
    for place in range(len(gap_s)):
        buckets[place] = _gap_bucket(max(gap_s[place], 0))
    return buckets


@kernel
def _arrays(
    offsets: Int64Array,
    item_row: Int32Array,
    event_type: UInt8Array,
    time_s: Int64Array,
    as_of_s: Int64Array,
    length: int,
    to_next: bool,
) -> tuple[Int32Array, UInt8Array, Int64Array, Int64Array, Int64Array, FloatArray]:
    """The fields of `RequestArrays` that come from the histories, in their order."""
    request_count = len(as_of_s)
    rows = np.full((request_count, length), -1, np.int32)
    kinds = np.zeros((request_count, length), np.uint8)
    gaps = np.zeros((request_count, length), np.int64)
    hours, weekdays = np.empty(request_count, np.int64), np.empty(request_count, np.int64)
    features = np.empty((request_count, _FEATURE_COUNT), np.float32)
    room = 16
    for request in range(request_count):
        while room < 2 * (offsets[request + 1] - offsets[request]):
            room *= 2
    seen, seen_in = np.empty(room, np.int32), np.full(room, -1, np.int64)
    for request in range(request_count):
        begin, end, now_s = offsets[request], offsets[request + 1], as_of_s[request]
        column = length - 1
        for event in range(end - 1, max(begin, end - length) - 1, -1):
            rows[request, column], kinds[request, column] = item_row[event], event_type[event]
            until_s = time_s[event + 1] if to_next and event + 1 < end else now_s
            gaps[request, column] = _gap_bucket(max(until_s - time_s[event], 0))
            column -= 1
        count = end - begin
        visits = 0
        for event in range(begin, end):  # times ascend within a request
            visits += event == begin or time_s[event] != time_s[event - 1]
        distinct = _count_distinct(item_row[begin:end], request, seen, seen_in)
        newest = max(now_s - time_s[end - 1], 0) / _DAY_S if count else NEVER_DAYS
        hour, weekday = (now_s // 3_600) % 24, (now_s // _DAY_S + _EPOCH_WEEKDAY) % 7
        hours[request], weekdays[request] = hour, weekday
        line = features[request]
        line[0], line[1] = np.log1p(count), np.log1p(newest)
        line[2], line[3] = np.log1p(distinct), np.log1p(visits)
        line[4], line[5] = distinct / max(count, 1), np.log1p(count / max(visits, 1))
        line[6], line[7] = np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * hour / 24)
        line[8], line[9] = np.sin(2 * np.pi * weekday / 7), np.cos(2 * np.pi * weekday / 7)
    return rows, kinds, gaps, hours, weekdays, features


@kernel
def _count_distinct(rows: Int32Array, request: int, seen: Int32Array, seen_in: Int64Array) -> int:
    """How many different rows there are, by an open-addressed table whose slots say which request filled them."""
    distinct, mask = 0, len(seen) - 1
    for row in rows:
        place = (np.int64(row) * _HASH_FACTOR >> 16) & mask
        while seen_in[place] == request and seen[place] != row:
            place = (place + 1) & mask
        if seen_in[place] != request:
            seen[place], seen_in[place] = row, request
            distinct += 1
    return distinct


@kernel
def _gap_bucket(gap_s: int) -> int:
    """Bucket b begins at 15 · (2^b - 1) minutes: 0, 15 min, 45 min, … 341 days, which is the last one."""
    bucket = 0
    while bucket < GAP_BUCKETS - 1 and gap_s >= _GAP_UNIT_S * ((2 << bucket) - 1):
        bucket += 1
    return bucket
