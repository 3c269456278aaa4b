from __future__ import annotations

from datetime import UTC, datetime
from math import cos, log1p, pi, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.random_logs import PURCHASE, VIEW, Asked, asked, extra_of, histories_of
from towers.features.histories import HistoryBatch
from towers.features.purchases import NEVER_DAYS
from towers.features.requests import REQUEST_FEATURES, GapsTo, RequestArrays, gap_buckets, request_arrays

WEDNESDAY_HALF_PAST_TWO = int(datetime(2024, 1, 3, 14, 30, tzinfo=UTC).timestamp())
DAY_S = 86_400


def arrays_of(batch: HistoryBatch, length: int = 4, gaps_to: GapsTo = "request") -> RequestArrays:
    none = np.zeros((len(batch), 0), np.int32)
    return request_arrays(batch, length, np.zeros(len(batch), np.int32), none, none, gaps_to)


def asked_at(as_of_s: int, events: list[tuple[int, int, int]]) -> HistoryBatch:
    return Asked(histories_of([events]), [0], [as_of_s], [None]).batch()


def test_the_newest_events_stand_last_and_the_front_is_padded() -> None:
    now = WEDNESDAY_HALF_PAST_TWO
    events = [
        (4, PURCHASE, now - 2 * 366 * DAY_S),
        (5, VIEW, now - DAY_S),
        (6, PURCHASE, now - 1_200),
        (7, VIEW, now - 600),
    ]
    shorter = arrays_of(asked_at(now, events), length=6)
    assert shorter.item_row.tolist() == [[-1, -1, 4, 5, 6, 7]]
    assert shorter.event_type.tolist() == [[0, 0, PURCHASE, VIEW, PURCHASE, VIEW]]
    # Bucket b begins at 15 · (2^b - 1) minutes: 10 min are in 0, 20 in 1, a day (1,440) in 6; 15 is the last.
    assert shorter.gap_bucket.tolist() == [[0, 0, 15, 6, 1, 0]]
    assert arrays_of(asked_at(now, events), length=2).item_row.tolist() == [[6, 7]]


@pytest.mark.parametrize(("minutes", "bucket"), [(14.9, 0), (15.1, 1), (44.9, 1), (45.1, 2), (105.1, 3)])
def test_a_gap_doubles_from_bucket_to_bucket(minutes: float, bucket: int) -> None:
    now = WEDNESDAY_HALF_PAST_TWO
    assert arrays_of(asked_at(now, [(0, VIEW, now - int(60 * minutes))]), 1).gap_bucket.tolist() == [[bucket]]


def test_a_gap_may_end_where_the_next_event_begins() -> None:
    """A day, 20 minutes, and an hour from the newest event to the request."""
    now = WEDNESDAY_HALF_PAST_TWO
    batch = asked_at(now, [(1, VIEW, now - DAY_S - 4_800), (2, VIEW, now - 4_800), (3, VIEW, now - 3_600)])
    assert arrays_of(batch, gaps_to="request").gap_bucket.tolist() == [[0, 6, 2, 2]]
    assert arrays_of(batch, gaps_to="next").gap_bucket.tolist() == [[0, 6, 1, 2]]
    assert arrays_of(batch, 2, "next").gap_bucket.tolist() == [[1, 2]]


def test_gaps_are_put_into_buckets_one_by_one() -> None:
    gap_s = np.array([-5, 0, 899, 900, 2_699, 2_700, 10 * 366 * DAY_S], np.int64)
    assert gap_buckets(gap_s).tolist() == [0, 0, 0, 1, 1, 2, 15]


def test_requests_are_taken_by_row() -> None:
    log = histories_of([[(1, VIEW, 10)], [(2, VIEW, 20)], [(3, VIEW, 30)]])
    all_of_them = arrays_of(Asked(log, [0, 1, 2], [50, 60, 70], [None] * 3).batch())
    taken = all_of_them.take(np.array([2, 0]))
    for name in RequestArrays.__slots__:
        assert getattr(taken, name).tolist() == [getattr(all_of_them, name)[row].tolist() for row in (2, 0)]


def test_an_event_later_than_its_request_has_no_gap() -> None:
    batch = Asked(histories_of([[]]), [0], [1_000], [extra_of([(1, VIEW, 90_000, False)])]).batch()
    arrays = arrays_of(batch, 1)
    assert arrays.gap_bucket.tolist() == [[0]]
    assert arrays.feature[0, REQUEST_FEATURES.index("log_days_since_last")] == 0


@pytest.mark.parametrize(
    ("moment", "hour", "weekday"),
    [
        (datetime(1970, 1, 1, 0, 0, tzinfo=UTC), 0, 3),
        (datetime(2024, 1, 1, 23, 59, 59, tzinfo=UTC), 23, 0),
        (datetime(2024, 1, 3, 14, 30, tzinfo=UTC), 14, 2),
        (datetime(2024, 2, 4, 5, 0, tzinfo=UTC), 5, 6),
    ],
)
def test_hour_and_weekday_are_those_of_the_request_in_utc(moment: datetime, hour: int, weekday: int) -> None:
    arrays = arrays_of(asked_at(int(moment.timestamp()), []))
    assert (arrays.hour.tolist(), arrays.weekday.tolist()) == ([hour], [weekday])


def test_features_of_a_request_are_those_computed_by_hand() -> None:
    now = WEDNESDAY_HALF_PAST_TWO
    basket = now - 3 * DAY_S
    events = [(4, VIEW, basket - 50), (4, PURCHASE, basket), (5, PURCHASE, basket), (4, VIEW, now - DAY_S // 2)]
    feature = dict(zip(REQUEST_FEATURES, arrays_of(asked_at(now, events)).feature[0].tolist(), strict=True))
    assert feature == pytest.approx(
        {
            "log_events": log1p(4),
            "log_days_since_last": log1p(0.5),
            "log_distinct_items": log1p(2),
            "log_visits": log1p(3),
            "distinct_share": 2 / 4,
            "log_events_per_visit": log1p(4 / 3),
            "hour_sin": sin(2 * pi * 14 / 24),
            "hour_cos": cos(2 * pi * 14 / 24),
            "weekday_sin": sin(2 * pi * 2 / 7),
            "weekday_cos": cos(2 * pi * 2 / 7),
        },
        abs=1e-6,
    )


def test_a_user_without_events_has_never_been_here() -> None:
    arrays = arrays_of(asked_at(WEDNESDAY_HALF_PAST_TWO, []))
    assert arrays.item_row.tolist() == [[-1, -1, -1, -1]]
    assert arrays.feature[0, :6].tolist() == pytest.approx([0, log1p(NEVER_DAYS), 0, 0, 0, 0])


def test_codes_pass_through() -> None:
    batch = asked_at(100, [])
    bucket, attribute, context = np.array([7], np.int32), np.array([[1, 2]], np.int32), np.array([[3]], np.int32)
    arrays = request_arrays(batch, 4, bucket, attribute, context)
    assert arrays.user_bucket is bucket
    assert arrays.user_attribute is attribute
    assert arrays.context is context


@given(asked())
def test_a_batch_is_its_single_requests_bit_for_bit(case: Asked) -> None:
    arrays = arrays_of(case.batch())
    for place in range(len(case.user_rows)):
        single = arrays_of(case.single(place))
        for name in ("item_row", "event_type", "gap_bucket", "hour", "weekday", "feature"):
            assert getattr(arrays, name)[place].tobytes() == getattr(single, name)[0].tobytes()


# Rows that a hash table of 16 to 128 slots tells apart badly: neighbours, multiples of powers of two, the largest.
_ROWS = st.integers(0, 9) | st.integers(0, 40).map(lambda row: row << 16) | st.integers(2**31 - 9, 2**31 - 1)


@given(st.lists(st.lists(_ROWS, max_size=60), min_size=1, max_size=4))
def test_distinct_items_are_counted_request_by_request(histories: list[list[int]]) -> None:
    offsets = np.cumsum([0, *(len(rows) for rows in histories)]).astype(np.int64)
    rows = np.array([row for part in histories for row in part], np.int32)
    nothing, ones = np.zeros(len(rows), np.uint8), np.ones(len(rows), np.bool_)
    batch = HistoryBatch(offsets, rows, nothing, nothing.astype(np.int64), ones, np.full(len(histories), 100, np.int64))
    found = arrays_of(batch).feature[:, REQUEST_FEATURES.index("log_distinct_items")]
    assert np.rint(np.expm1(found)).tolist() == [len(set(part)) for part in histories]
