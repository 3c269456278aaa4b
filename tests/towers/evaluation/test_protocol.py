import numpy as np
import polars as pl
import pytest

from tests.towers.evaluation.tiny_log import DAY_S, EVENTS, TRAIN_END_S, interactions, tiny_split
from towers.evaluation.interactions import target_interactions
from towers.evaluation.protocol import EvaluationSet, split_by_time
from towers.schema import Dataset, EventColumns


def test_candidates_users_and_relevant_items_follow_the_rules() -> None:
    asked = tiny_split().evaluation_set
    assert asked.candidate_rows.tolist() == [0, 1, 2]
    assert asked.user_rows.tolist() == [0, 1, 3]  # 2 bought no candidate, 4 has no history
    assert relevant_items(asked) == [[2], [1], [1]]
    assert asked.bought.toarray().nonzero()[1].tolist() == [0, 1, 0, 2, 1, 5]
    assert not asked.exclude_bought


def test_train_ends_before_the_first_second_of_test() -> None:
    split = split_by_time(interactions(EVENTS, 5, 6), train_end_s=99 * DAY_S, item_users_min=2)
    assert split.train.time_s.max() == 98 * DAY_S
    assert relevant_items(split.evaluation_set) == [[1, 2], [1, 2], [1]]  # what happened on day 99 is asked now


def test_test_ends_before_its_end() -> None:
    split = split_by_time(interactions(EVENTS, 5, 6), train_end_s=TRAIN_END_S, test_end_s=102 * DAY_S, item_users_min=2)
    assert split.evaluation_set.user_rows.tolist() == [0]


def test_new_only_has_its_own_users_and_relevant_items() -> None:
    asked = tiny_split().evaluation_set.new_only()
    assert asked.user_rows.tolist() == [0, 1]
    assert relevant_items(asked) == [[2], [1]]
    assert asked.bought.shape[0] == 2
    assert asked.exclude_bought


def test_what_was_bought_moves_out_of_a_ranking_and_the_rest_up() -> None:
    asked = tiny_split().evaluation_set
    rankings = np.array([[0, 2, 1], [1, -1, 0], [5, 0, 2]])
    assert asked.without_bought(rankings).tolist() == [[2, -1, -1], [1, -1, -1], [0, 2, -1]]


def test_several_purchases_of_an_item_are_one_relevant_item() -> None:
    events = [*EVENTS, (0, 2, 103), (0, 2, 104)]
    asked = split_by_time(interactions(events, 5, 6), train_end_s=TRAIN_END_S, item_users_min=2).evaluation_set
    assert relevant_items(asked)[0] == [2]
    assert set(asked.relevant.data) == {1.0}


@pytest.mark.parametrize(
    ("train_end_day", "test_end_day", "item_users_min", "message"),
    [
        (100, 100, 2, "is not after"),
        (100, None, 4, "no item has 4 users"),
        (106, None, 2, "no user with a history"),
        (5, None, 1, "no item has 1 users"),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(
    train_end_day: int, test_end_day: int | None, item_users_min: int, message: str
) -> None:
    test_end_s = None if test_end_day is None else test_end_day * DAY_S
    with pytest.raises(ValueError, match=message):
        split_by_time(
            interactions(EVENTS, 5, 6),
            train_end_s=train_end_day * DAY_S,
            test_end_s=test_end_s,
            item_users_min=item_users_min,
        )


def test_only_target_events_of_a_dataset_count() -> None:
    log = target_interactions(views_and_purchases())
    assert log.user_row.tolist() == [0, 1]
    assert log.item_row.tolist() == [2, 0]
    assert log.time_s.tolist() == [20, 30]
    assert (log.user_count, log.item_count) == (2, 3)


def relevant_items(asked: EvaluationSet) -> list[list[int]]:
    rows = asked.relevant
    return [sorted(rows.indices[rows.indptr[u] : rows.indptr[u + 1]].tolist()) for u in range(asked.user_count)]


def views_and_purchases() -> Dataset:
    class Meta:
        event_types = ("view", "purchase")
        target_event_types = ("purchase",)

    nothing = np.full(3, np.nan, dtype=np.float32)
    events = EventColumns(
        user_row=np.array([0, 0, 1], dtype=np.int32),
        item_row=np.array([1, 2, 0], dtype=np.int32),
        event_type=np.array([0, 1, 1], dtype=np.uint8),
        time_s=np.array([10, 20, 30]),
        session=np.full(3, -1),
        quantity=nothing,
        value=nothing,
        rating=nothing,
        position=nothing,
        dwell_s=nothing,
        context={},
    )
    return Dataset(
        meta=Meta(),  # type: ignore[arg-type]
        items=pl.DataFrame({"item_id": ["a", "b", "c"]}),
        users=pl.DataFrame({"user_id": ["x", "y"]}),
        events=events,
    )
