"""The replay on the small shop: every mode is asked the same questions, and the figures are JSON."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.freshness.prequential import Replay, run
from tests.conftest import SmallModel
from towers.model import read_model
from towers.schema import Dataset
from towers.updating.recipe import Recipe

DAY_S = 86_400


def test_a_replay_of_the_small_shop(small_model: SmallModel, small_dataset: Dataset) -> None:
    model = read_model(small_model.model_dir)
    end_s = small_dataset.meta.last_time_s + 1
    replay = Replay.of(small_dataset, model, end_s - 40 * DAY_S, end_s)
    recipe = Recipe(tower_steps=2, ranker_passes=1, replay_days=1)
    figures = json.loads(json.dumps(run(replay, recipe, None, 60.0, lambda _: None)))["prequential"]
    modes = ("frozen", "fresh", "updated", "tables", "decayed_frequency")
    assert {figures[mode]["household_days"] for mode in modes} == {len(replay.questions)}
    assert figures["days"] == figures["days_updated"] == 40
    mean, low, high = figures["differences"]["fresh - frozen"]
    assert low <= mean <= high
    assert mean == pytest.approx(figures["fresh"]["ndcg@20"] - figures["frozen"]["ndcg@20"])
    strangers = figures["cold_start"]["strangers"]
    assert strangers["fresh"]["household_days"] == int(replay.stranger[replay.questions.user_row].sum())
