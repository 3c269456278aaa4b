from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.random_logs import PURCHASE, VIEW, Asked, asked, extra_of, histories_of
from towers.features.histories import HistoryBatch

LOG = histories_of(
    [
        [(3, VIEW, 100), (3, PURCHASE, 200), (5, PURCHASE, 200), (4, VIEW, 300)],
        [],
        [(7, PURCHASE, 50)],
    ]
)


def ask(user_rows: list[int], as_of_s: list[int]) -> HistoryBatch:
    return Asked(LOG, user_rows, as_of_s, [None] * len(user_rows)).batch()


def items_of(batch: HistoryBatch) -> list[list[int]]:
    return [part.tolist() for part in np.split(batch.item_row, batch.offsets[1:-1])]


@pytest.mark.parametrize(
    ("as_of_s", "items"), [(100, []), (101, [3]), (200, [3]), (201, [3, 3, 5]), (300, [3, 3, 5]), (301, [3, 3, 5, 4])]
)
def test_only_events_strictly_before_the_request_are_seen(as_of_s: int, items: list[int]) -> None:
    assert items_of(ask([0], [as_of_s])) == [items]


def test_unknown_users_and_users_without_events_have_empty_histories() -> None:
    batch = ask([-1, 2, 1, 0], [1_000, 1_000, 1_000, 101])
    assert items_of(batch) == [[], [7], [], [3]]
    assert batch.offsets.tolist() == [0, 0, 1, 1, 2]


def test_no_request_at_all_is_an_empty_batch() -> None:
    batch = ask([], [])
    assert len(batch) == 0
    assert len(batch.item_row) == 0
    assert batch.offsets.tolist() == [0]


def test_extra_events_are_merged_in_order_of_time_after_logged_ones_of_the_same_second() -> None:
    extra = extra_of([(9, VIEW, 150, False), (8, PURCHASE, 200, True), (6, VIEW, 250, False)])
    batch = Asked(LOG, [2, 0], [1_000, 250], [None, extra]).batch()
    assert items_of(batch) == [[7], [3, 9, 3, 5, 8, 6]]
    assert batch.time_s.tolist() == [50, 100, 150, 200, 200, 200, 250]
    assert batch.event_type.tolist() == [PURCHASE, VIEW, VIEW, PURCHASE, PURCHASE, PURCHASE, VIEW]
    assert batch.is_target.tolist() == [True, False, False, True, True, True, False]


def test_an_unknown_user_has_the_extra_events_alone() -> None:
    batch = Asked(LOG, [-1], [400], [extra_of([(2, VIEW, 390, False), (1, VIEW, 395, False)])]).batch()
    assert items_of(batch) == [[2, 1]]


def test_the_last_events_are_kept_extra_ones_included() -> None:
    extra = extra_of([(8, VIEW, 210, False), (6, VIEW, 250, False)])
    batch = Asked(LOG, [0, 2], [250, 250], [extra, None]).batch(event_count_max=1)
    assert items_of(batch) == [[5, 6], [7]]  # the newest purchase and the newest view: views push no purchase out


def test_extra_events_of_one_second_keep_the_order_in_which_they_were_sent() -> None:
    extra = extra_of([(9, VIEW, 150, False), (8, VIEW, 150, False), (6, VIEW, 120, False), (7, VIEW, 150, False)])
    batch = Asked(LOG, [0], [150], [extra]).batch()
    assert items_of(batch) == [[3, 6, 9, 8, 7]]
    assert items_of(Asked(LOG, [0], [150], [extra]).batch(event_count_max=2)) == [[8, 7]]


def test_targets_are_the_events_of_target_types_and_of_extra_ones_those_that_say_so() -> None:
    cart = extra_of([(6, PURCHASE, 310, False), (8, PURCHASE, 310, True)])
    batch = Asked(LOG, [0, 1], [310, 310], [cart, cart]).batch()
    assert batch.request_of_event[batch.is_target].tolist() == [0, 0, 0, 1]
    assert batch.item_row[batch.is_target].tolist() == [3, 5, 8, 8]


def test_spans_are_the_named_events_alone() -> None:
    """Training names a visit's past by places in the log, not by its user."""
    start, end, as_of_s = (np.array(values, np.int64) for values in ([0, 1, 5], [2, 3, 5], [1_000, 1_000, 1_000]))
    assert items_of(LOG.spans(start, end, as_of_s, 10)) == [[3, 3], [3, 5], []]
    assert items_of(LOG.spans(start, end, as_of_s, 1)) == [[3, 3], [5], []]


@given(asked(), st.integers(1, 20))
def test_a_batch_is_its_single_requests(case: Asked, event_count_max: int) -> None:
    batch = case.batch(event_count_max)
    for place in range(len(case.user_rows)):
        single = case.single(place, event_count_max)
        own = slice(batch.offsets[place], batch.offsets[place + 1])
        assert single.offsets.tolist() == [0, own.stop - own.start]
        for name in ("item_row", "event_type", "time_s", "is_target"):
            assert getattr(batch, name)[own].tolist() == getattr(single, name).tolist()


@given(asked(), st.integers(1, 20))
def test_histories_are_ordered_bounded_and_strictly_past(case: Asked, event_count_max: int) -> None:
    batch = case.batch(event_count_max)
    for kind in (batch.is_target, ~batch.is_target):
        assert (np.bincount(batch.request_of_event[kind], minlength=1) <= event_count_max).all()
    for place in range(len(batch)):
        times = batch.time_s[batch.offsets[place] : batch.offsets[place + 1]]
        assert (np.diff(times) >= 0).all()
    logged = Asked(case.log, case.user_rows, case.as_of_s, [None] * len(case.extra)).batch(event_count_max)
    assert (logged.time_s < np.repeat(logged.as_of_s, np.diff(logged.offsets))).all()


@given(asked(), st.integers(1, 5))
def test_a_sort_by_time_finds_the_same(case: Asked, event_count_max: int) -> None:
    batch = case.batch(event_count_max)
    log, seen = case.log, []
    for user, as_of_s, extra in zip(case.user_rows, case.as_of_s, case.extra, strict=True):
        own = range(log.offsets[user], log.offsets[user + 1]) if user >= 0 else range(0)
        events = [
            (log.time_s[at], log.item_row[at], log.event_type[at], log.event_type[at] == PURCHASE)
            for at in own
            if log.time_s[at] < as_of_s
        ]
        if extra is not None:
            events += zip(extra.time_s, extra.item_row, extra.event_type, extra.is_target, strict=True)
        events.sort(key=lambda event: event[0])  # stable
        of_kind = {kind: [event for event in events if event[3] == kind][-event_count_max:] for kind in (True, False)}
        seen.append([event for event in events if any(event is other for other in of_kind[bool(event[3])])])
    assert np.diff(batch.offsets).tolist() == [len(events) for events in seen]
    columns = zip(batch.time_s, batch.item_row, batch.event_type, batch.is_target, strict=True)
    assert list(columns) == [event for events in seen for event in events]
