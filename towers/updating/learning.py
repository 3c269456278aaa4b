"""A model learned on: from its weights, by new events with replayed old ones, within a limit of time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from towers.evaluation import Interactions, target_interactions
from towers.learning_data import LearningData, encode
from towers.model import TrainedModel
from towers.schema import Dataset
from towers.training.cuts import RetrieverFactory
from towers.updating.item_log import ItemLog
from towers.updating.judging import Contender, Tables, active_until, contender
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


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset made ready once, for all that an update does with it.

    Attributes:
        data: encoded for the model whose update this is. targets: the target events. log: the same, sorted by item.
    """

    dataset: Dataset
    data: LearningData
    targets: Interactions
    log: ItemLog

    @classmethod
    def of(cls, dataset: Dataset, model: TrainedModel) -> Source:
        """Encodes and sorts."""
        data = encode(dataset, model.encoders, model.settings, model.towers_until_s)
        return cls(dataset, data, target_interactions(dataset), ItemLog.of(data.histories, data.item_count))

    def as_read_by(self, model: TrainedModel) -> LearningData:
        """The encoded dataset for a model of the same encoders."""
        return active_until(self.data, self.dataset, model)

    def contender(self, model: TrainedModel, retrievers: RetrieverFactory, as_of_s: int) -> Contender:
        """The model as a generation built at that moment would serve it."""
        return contender(model, Tables(self.as_read_by(model), model, self.log).at(as_of_s), retrievers)


def learn_on(
    model: TrainedModel, source: Source, new_begin_s: int, end_s: int, retrievers: RetrieverFactory, recipe: Recipe
) -> Learned:
    """The model after the events of [new_begin_s, end_s); nothing of `end_s` or later is read.

    Vocabularies stay: an item or value that the model never saw has code 0, and rests on what else is known of it.
    """
    started = time.monotonic()
    deadline_s = started + recipe.seconds_max
    data = source.as_read_by(replace(model, towers_until_s=end_s))
    item, user, tower_steps = tune_towers(
        model, data, new_begin_s, end_s, recipe, started + recipe.seconds_max * recipe.tower_time_share
    )
    if tower_steps:
        model = replace(model, item_tower=item, user_tower=user, towers_until_s=end_s)
    else:
        data = source.as_read_by(model)
    days = example_days(new_begin_s, end_s, source.dataset.meta.first_time_s, recipe)
    ranker, ranker_steps = tune_ranker(
        model, data, source.targets, days, end_s, source.log, retrievers, recipe, deadline_s
    )
    if ranker_steps:
        model = replace(model, ranker=ranker, ranker_until_s=end_s)
    return Learned(model, tower_steps, ranker_steps, time.monotonic() - started)
