"""A model learned on: from its weights, by new events with replayed old ones, within a limit of time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from towers.evaluation import target_interactions
from towers.learning_data import encode
from towers.model import TrainedModel
from towers.schema import Dataset
from towers.training.cuts import RetrieverFactory
from towers.updating.ranker_steps import example_days, tune_ranker
from towers.updating.recipe import Recipe
from towers.updating.tower_steps import tune_towers


@dataclass(frozen=True)
class Learned:
    """What came of it: the model, and what it took."""

    model: TrainedModel
    tower_steps: int
    ranker_steps: int
    seconds: float


def learn_on(
    model: TrainedModel, dataset: Dataset, new_begin_s: int, end_s: int, retrievers: RetrieverFactory, recipe: Recipe
) -> Learned:
    """The model after the events of [new_begin_s, end_s); nothing of `end_s` or later is read.

    Vocabularies stay: an item or value that the model never saw has code 0, and rests on what else is known of it.
    """
    started = time.monotonic()
    deadline_s = started + recipe.seconds_max
    data = encode(dataset, model.encoders, model.settings, end_s)
    item, user, tower_steps = tune_towers(
        model, data, new_begin_s, end_s, recipe, started + recipe.seconds_max * recipe.tower_time_share
    )
    if tower_steps:
        model = replace(model, item_tower=item, user_tower=user, towers_until_s=end_s)
    else:
        data = encode(dataset, model.encoders, model.settings, model.towers_until_s)
    days = example_days(new_begin_s, end_s, dataset.meta.first_time_s, recipe)
    ranker, ranker_steps = tune_ranker(
        model, data, target_interactions(dataset), days, end_s, retrievers, recipe, deadline_s
    )
    if ranker_steps:
        model = replace(model, ranker=ranker, ranker_until_s=end_s)
    return Learned(model, tower_steps, ranker_steps, time.monotonic() - started)
