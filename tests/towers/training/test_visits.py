from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given

from tests.towers.random_logs import ITEM_COUNT, PURCHASE, VIEW, Asked, asked, histories_of
from towers.features.histories import Histories
from towers.learning_data import LearningData
from towers.training.visits import Visits, find_visits

EVERY_ITEM = np.ones(ITEM_COUNT, np.bool_)


def data_of(log: Histories) -> LearningData:
    """As much of the learning data as visits read."""
    return cast(LearningData, SimpleNamespace(histories=log, item_count=ITEM_COUNT))


SHOP = data_of(
    histories_of(
        [
            [(1, VIEW, 10), (1, PURCHASE, 20), (3, PURCHASE, 20), (1, PURCHASE, 20), (2, VIEW, 20), (3, PURCHASE, 40)],
            [],
            [(5, VIEW, 30)],
            [(1, PURCHASE, 20), (4, PURCHASE, 50), (1, PURCHASE, 60)],
        ]
    )
)


def targets_of(visits: Visits) -> list[list[int]]:
    return [part.tolist() for part in np.split(visits.target, visits.offsets[1:-1])]


def test_a_visit_is_one_user_at_one_second_and_its_targets_are_what_was_bought_once_each() -> None:
    visits = find_visits(SHOP, EVERY_ITEM, only_new=False)
    assert visits.user_row.tolist() == [0, 0, 3, 3, 3]
    assert visits.time_s.tolist() == [20, 40, 20, 50, 60]
    assert targets_of(visits) == [[1, 3], [3], [1], [4], [1]]


def test_only_new_leaves_out_what_the_user_bought_before() -> None:
    visits = find_visits(SHOP, EVERY_ITEM, only_new=True)
    assert visits.time_s.tolist() == [20, 20, 50]
    assert targets_of(visits) == [[1, 3], [1], [4]]


def test_only_learnable_items_are_targets() -> None:
    learnable = EVERY_ITEM.copy()
    learnable[[1, 4]] = False
    visits = find_visits(SHOP, learnable, only_new=False)
    assert visits.time_s.tolist() == [20, 40]
    assert targets_of(visits) == [[3], [3]]


def test_the_history_of_a_visit_ends_strictly_before_it() -> None:
    visits = find_visits(SHOP, EVERY_ITEM, only_new=False)
    histories = visits.histories(SHOP, np.arange(5), event_count_max=2)
    assert [part.tolist() for part in np.split(histories.item_row, histories.offsets[1:-1])] == [
        [1],
        [1, 3, 1, 2],  # the two newest purchases and the two newest other events of the five before
        [],
        [1],
        [1, 4],
    ]


def test_between_takes_its_beginning_and_leaves_its_end() -> None:
    visits = find_visits(SHOP, EVERY_ITEM, only_new=False)
    assert visits.between(20, 50).tolist() == [0, 1, 2]
    assert visits.between(51, 60).tolist() == []


def test_targets_are_drawn_from_the_own_visit_and_each_may_come() -> None:
    visits = find_visits(SHOP, EVERY_ITEM, only_new=False)
    drawn = visits.draw_targets(np.array([0, 3]), 50, np.random.default_rng(1))
    assert set(drawn[0].tolist()) == {1, 3}
    assert set(drawn[1].tolist()) == {4}


def test_no_purchase_and_no_choice_are_no_visits() -> None:
    nothing = find_visits(data_of(histories_of([[(5, VIEW, 30)]])), EVERY_ITEM, only_new=True)
    assert len(nothing) == 0
    place, item = nothing.all_targets(np.zeros(0, np.int64))
    assert (place.tolist(), item.tolist()) == ([], [])


@pytest.mark.parametrize("only_new", [False, True])
@given(case=asked(requests_min=0))
def test_visits_learn_from_what_serving_would_have_seen(case: Asked, only_new: bool) -> None:
    """The history of a visit is the one of a request by that user at that second."""
    data = data_of(case.log)
    visits = find_visits(data, EVERY_ITEM, only_new)
    learned = visits.histories(data, np.arange(len(visits)), event_count_max=3)
    served = case.log.batch(visits.user_row, visits.time_s, event_count_max=3)
    for name in ("offsets", "item_row", "event_type", "time_s", "is_target", "as_of_s"):
        assert getattr(learned, name).tolist() == getattr(served, name).tolist()
