from __future__ import annotations

import pytest

from tests.conftest import SmallModel
from tests.towers.exact_retriever import SortingRetriever
from towers.evaluation import EvaluationSet, split_by_time, target_interactions
from towers.features.histories import Int32Array
from towers.model import read_model
from towers.offline import rank_users
from towers.schema import Dataset, load_dataset
from towers.training import cuts

DAY_S = 86_400
K = 15


@pytest.fixture(scope="module")
def dataset(small_model: SmallModel) -> Dataset:
    return load_dataset(small_model.dataset_dir)


@pytest.fixture(scope="module")
def asked(dataset: Dataset) -> EvaluationSet:
    split = split_by_time(
        target_interactions(dataset), train_end_s=dataset.meta.last_time_s - 20 * DAY_S, item_users_min=1
    )
    return split.evaluation_set


def ranked(small_model: SmallModel, dataset: Dataset, asked: EvaluationSet) -> Int32Array:
    return rank_users(dataset, read_model(small_model.model_dir), asked, SortingRetriever, K)


def test_everybody_gets_a_list_of_distinct_items(
    small_model: SmallModel, dataset: Dataset, asked: EvaluationSet
) -> None:
    rows = ranked(small_model, dataset, asked)
    assert rows.shape == (asked.user_count, K)
    for line in rows.tolist():
        items = [row for row in line if row >= 0]
        assert line == items + [-1] * (K - len(items))  # pads at the end
        assert len(set(items)) == len(items) > 5


def test_new_only_leaves_out_what_was_bought_before_the_moment(
    small_model: SmallModel, dataset: Dataset, asked: EvaluationSet
) -> None:
    new_only = asked.new_only()
    rows = ranked(small_model, dataset, new_only)
    bought = [set(new_only.bought[[place]].indices.tolist()) for place in range(new_only.user_count)]
    assert all(not had.intersection(line) for had, line in zip(bought, rows.tolist(), strict=True))
    everything = ranked(small_model, dataset, asked).tolist()
    all_had = [set(asked.bought[[place]].indices.tolist()) for place in range(asked.user_count)]
    assert sum(bool(had.intersection(line)) for had, line in zip(all_had, everything, strict=True)) > 5


def test_the_lists_do_not_depend_on_how_users_are_batched(
    small_model: SmallModel, dataset: Dataset, asked: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towers import offline

    whole = ranked(small_model, dataset, asked)
    assert asked.user_count < cuts.USERS_PER_BATCH
    monkeypatch.setattr(offline, "USERS_PER_BATCH", 4)
    pieces = ranked(small_model, dataset, asked)
    assert (pieces == whole).mean() > 0.98  # scores that differ in the last bit may change places
