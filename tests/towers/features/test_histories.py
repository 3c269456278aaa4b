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
    assert len(batch.last(3).targets()) == 0


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
    assert items_of(batch.last(1)) == [[6], [7]]


def test_targets_are_the_events_of_target_types_and_of_extra_ones_those_that_say_so() -> None:
    cart = extra_of([(6, PURCHASE, 310, False), (8, PURCHASE, 310, True)])
    batch = Asked(LOG, [0, 1], [310, 310], [cart, cart]).batch()
    assert items_of(batch.targets()) == [[3, 5, 8], [8]]


def test_ages_are_days_before_the_own_request_and_never_negative() -> None:
    log = histories_of([[(1, VIEW, 0)], [(2, VIEW, 86_400)]])
    late = extra_of([(3, VIEW, 500_000, False)])
    batch = Asked(log, [0, 1], [43_200, 3 * 86_400], [None, late]).batch()
    assert batch.age_days.tolist() == [0.5, 2.0, 0.0]


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
        assert (np.diff(batch.keep(kind).offsets) <= event_count_max).all()
    for place in range(len(batch)):
        times = batch.time_s[batch.offsets[place] : batch.offsets[place + 1]]
        assert (np.diff(times) >= 0).all()
    logged = Asked(case.log, case.user_rows, case.as_of_s, [None] * len(case.extra)).batch(event_count_max)
    assert (logged.time_s < np.repeat(logged.as_of_s, np.diff(logged.offsets))).all()
