"""Asking offline: the lists are those of rank_users, a source left out brings nothing, strangers are strangers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import SmallModel
from tests.towers.exact_retriever import SortingRetriever
from towers.evaluation import TimeSplit, split_by_time, target_interactions
from towers.model import TrainedModel, read_model
from towers.offline import rank_users
from towers.reporting.asking import Asker
from towers.reporting.cold_items import attribute_popularity, cold_items, withhold
from towers.reporting.cold_users import cold_users, recalls
from towers.reporting.lists import SOURCE_BIT_OF
from towers.schema import Dataset

DAY_S = 86_400
K = 8


@pytest.fixture(scope="module")
def model(small_model: SmallModel) -> TrainedModel:
    return read_model(small_model.model_dir)


@pytest.fixture(scope="module")
def split(small_dataset: Dataset) -> TimeSplit:
    return split_by_time(
        target_interactions(small_dataset), train_end_s=small_dataset.meta.last_time_s - 20 * DAY_S, item_users_min=1
    )


@pytest.fixture(scope="module")
def asker(small_dataset: Dataset, model: TrainedModel, split: TimeSplit) -> Asker:
    return Asker.of(small_dataset, model, split.evaluation_set.asked_at_s, SortingRetriever)


def test_lists_are_those_of_the_offline_evaluation(
    asker: Asker, small_dataset: Dataset, model: TrainedModel, split: TimeSplit
) -> None:
    for asked in (split.evaluation_set, split.evaluation_set.new_only()):
        lists = asker.ask(asked, K)[""]
        np.testing.assert_array_equal(lists.rows, rank_users(small_dataset, model, asked, SortingRetriever, K))
        present = lists.rows >= 0
        assert ((lists.scores[present] > 0) & (lists.scores[present] < 1)).all()
        assert (np.diff(lists.scores, axis=1)[present[:, 1:]] <= 0).all()  # best first
        assert (lists.sources[present] > 0).all()
        assert np.isnan(lists.scores[~present]).all()


def test_a_source_that_is_left_out_brings_nothing(asker: Asker, split: TimeSplit) -> None:
    assert asker.sources == ("two_tower", "buy_again", "popular")
    found = asker.ask(split.evaluation_set, 40, asker.sources)
    assert list(found) == ["", *asker.sources]
    for name in asker.sources:
        assert (found[""].sources & SOURCE_BIT_OF[name]).any()
        assert not (found[name].sources & SOURCE_BIT_OF[name]).any()
    assert (found["two_tower"].rows != found[""].rows).any()


def test_newest_events_are_the_last_before_the_moment(asker: Asker, split: TimeSplit) -> None:
    users = split.evaluation_set.user_rows
    log = asker.data.histories
    start, end = asker.newest_events(users, 3)
    for user, first, last in zip(users, start, end, strict=True):
        begin = log.offsets[user]
        before = begin + int((log.time_s[begin : log.offsets[user + 1]] < asker.asked_at_s).sum())
        assert (first, last) == (max(begin, before - 3), before)


def test_strangers_without_events_all_get_one_list_and_three_events_tell_them_apart(
    asker: Asker, split: TimeSplit
) -> None:
    nothing = asker.ask_as_strangers(split.evaluation_set, K, 0)
    assert len({tuple(line) for line in nothing.rows.tolist()}) == 1
    assert not (nothing.sources & SOURCE_BIT_OF["buy_again"]).any()
    some = asker.ask_as_strangers(split.evaluation_set, K, 3)
    assert len({tuple(line) for line in some.rows.tolist()}) > 5


def test_cold_users_are_measured_beside_popularity_and_content(
    asker: Asker, small_dataset: Dataset, split: TimeSplit
) -> None:
    rows = cold_users(asker, small_dataset, split, K)
    assert [row["events"] for row in rows] == [0, 1, 3]
    assert len({row["popularity"] for row in rows}) == 1  # it knows nobody
    assert rows[0]["content"] == rows[0]["popularity"]  # without events there is nothing to be like
    for row in rows:
        assert row["popularity_lead"] == pytest.approx(row["twinrank"] - row["popularity"])
        assert row["content_ci"][0] <= row["content"] <= row["content_ci"][1]


def test_strangers_are_asked_alike_whatever_the_shops_lists_leave_out(
    asker: Asker, small_dataset: Dataset, split: TimeSplit
) -> None:
    """Else the model alone would leave out what the baselines may show."""
    hiding = replace(split, evaluation_set=replace(split.evaluation_set, exclude_bought=True))
    assert cold_users(asker, small_dataset, hiding, K) == cold_users(asker, small_dataset, split, K)


def test_recall_and_lead_of_known_lists(split: TimeSplit) -> None:
    relevant = split.evaluation_set.relevant[:2]
    right = [int(relevant[[place]].indices[0]) for place in range(2)]
    found = recalls({"a": np.array([[right[0]], [right[1]]]), "b": np.array([[right[0]], [-1]])}, relevant, 1)
    assert (found["a"], found["b"], found["b_lead"]) == (1.0, 0.5, 0.5)


def test_withheld_items_leave_the_log_before_the_moment_and_are_asked_for_after_it(
    small_dataset: Dataset, split: TimeSplit
) -> None:
    withheld = withhold(small_dataset, split, share=0.3, seed=1)
    asked, events = withheld.split.evaluation_set, withheld.dataset.events
    assert withheld.items.sum() == round(0.3 * len(split.evaluation_set.candidate_rows))
    early = events.time_s < asked.asked_at_s
    assert not withheld.items[events.item_row[early]].any()
    assert withheld.items[events.item_row[~early]].any()
    assert len(events.context["device"]) == len(events.user_row)
    gone = withheld.items[small_dataset.events.item_row] & (small_dataset.events.time_s < asked.asked_at_s)
    assert len(events.user_row) == len(small_dataset.events.user_row) - gone.sum()
    assert withheld.items[asked.relevant.indices].all()
    assert (np.diff(asked.relevant.indptr) > 0).all()
    assert not withheld.items[withheld.split.train.item_row].any()


def test_withheld_items_are_ranked_among_all_and_among_themselves(
    small_dataset: Dataset, model: TrainedModel, split: TimeSplit
) -> None:
    withheld = withhold(small_dataset, split, share=0.3, seed=1)
    found = cold_items(withheld, model, SortingRetriever, K)
    assert found["withheld"] == withheld.items.sum()
    assert found["among_all"]["popularity"] == 0.0 or len(split.evaluation_set.candidate_rows) <= K
    assert found["among_withheld"]["twinrank"] > found["among_all"]["popularity"]
    assert found["among_withheld"]["content"] >= found["among_all"]["content"]


def test_popularity_of_attributes_is_the_mean_over_items_that_share_them(
    small_dataset: Dataset, split: TimeSplit
) -> None:

    from towers.evaluation import train_log

    withheld = withhold(small_dataset, split, share=0.3, seed=1)
    rows = np.flatnonzero(withheld.items).astype(np.int32)
    asked = replace(withheld.split.evaluation_set, candidate_rows=rows)
    log, cold = train_log(withheld.split), train_log(replace(withheld.split, evaluation_set=asked))
    users = dict(zip(log.candidate_rows.tolist(), log.candidate_users.tolist(), strict=True))
    expected = 0.0
    row = int(cold.candidate_rows[0])
    for name in small_dataset.meta.item_attributes.categorical:
        values = small_dataset.items[name].to_list()
        alike = [count for item, count in users.items() if values[item] == values[row] and count > 0]
        expected += sum(alike) / len(alike) if alike else 0
    assert attribute_popularity(small_dataset, log, cold)[0] == pytest.approx(expected)
