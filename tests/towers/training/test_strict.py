"""The strict protocol: what others did last teaches nothing but the ranker's labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import SmallModel
from tests.towers.exact_retriever import SortingRetriever
from towers.evaluation import EvaluationSet
from towers.evaluation.held_out import held_out_question
from towers.model import TrainedModel, read_model
from towers.offline import rank_users
from towers.schema import Dataset
from towers.settings import LearningSettings


def ended(model: TrainedModel, end: str, **candidates: int) -> TrainedModel:
    settings = model.settings
    training = settings.training.model_copy(update={"sources_end": end})
    depths = settings.candidates.model_copy(update=candidates)
    changed: LearningSettings = settings.model_copy(update={"training": training, "candidates": depths})
    return replace(model, settings=changed)


def with_last_purchases_of_others(dataset: Dataset, until_s: int, keep: int) -> Dataset:
    """The same log, but whatever others than one user did from a moment on, they did with one item."""
    events = dataset.events
    changed = (events.time_s >= until_s) & (events.user_row != keep)
    assert changed.any()
    return replace(dataset, events=replace(events, item_row=np.where(changed, 0, events.item_row).astype(np.int32)))


@pytest.mark.parametrize(("end", "same"), [("towers", True), ("cut", False)])
def test_what_others_did_after_the_towers_end_moves_no_list(
    small_model: SmallModel, small_dataset: Dataset, end: str, same: bool
) -> None:
    model = ended(read_model(small_model.model_dir), end)
    user = 3
    asked_at_s = small_dataset.meta.last_time_s + 1
    other = with_last_purchases_of_others(small_dataset, model.towers_until_s, user)
    lists = []
    for dataset in (small_dataset, other):
        user_id = dataset.users["user_id"][user]
        asked: EvaluationSet = held_out_question(dataset, {user_id: ["any"]}, asked_at_s).evaluation_set
        lists.append(rank_users(dataset, model, asked, SortingRetriever, k=10).tolist())
    assert (lists[0] == lists[1]) is same
