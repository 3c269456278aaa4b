"""A few more steps of the ranker from the weights it has: the questions of new days, and of old ones drawn again."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

import numpy as np
import torch

from towers.evaluation import Interactions
from towers.learning_data import LearningData
from towers.model import TrainedModel
from towers.models.ranker import Ranker
from towers.recommender import UserEmbedder
from towers.schema import LogTooShortError
from towers.training.cuts import DAY_S, CutExamples, RetrieverFactory, build_cut
from towers.training.ranker_calibration import calibrate
from towers.training.ranker_task import RankerLoss, RankerTask
from towers.updating.examples import build_examples
from towers.updating.item_log import ItemLog
from towers.updating.judging import Tables, contender
from towers.updating.questions import Questions, user_days
from towers.updating.recipe import Recipe

CPU = torch.device("cpu")


def example_days(new_begin_s: int, end_s: int, first_s: int, recipe: Recipe) -> list[tuple[int, int]]:
    """The spans [begin, end) whose questions are learned: the newest new days, and old ones drawn by the seed."""
    new = [(begin, min(begin + DAY_S, end_s)) for begin in range(new_begin_s, end_s, DAY_S)][-recipe.new_days_max :]
    reach = min(recipe.replay_reach_days, max((new_begin_s - first_s) // DAY_S - 1, 0))
    back = np.random.default_rng((recipe.seed, end_s)).permutation(reach)[: recipe.replay_days] + 1
    return new + [(new_begin_s - int(days) * DAY_S, new_begin_s - (int(days) - 1) * DAY_S) for days in np.sort(back)]


def tune_ranker(
    model: TrainedModel,
    data: LearningData,
    targets: Interactions,
    days: Sequence[tuple[int, int]],
    end_s: int,
    log: ItemLog,
    retrievers: RetrieverFactory,
    recipe: Recipe,
    deadline_s: float,
) -> tuple[Ranker, int]:
    """The ranker, learned on from the model's by the questions of the days, and calibrated again.

    Args:
        model: whose weights are the start (of its towers all scores are made); it stays as it is.
        data, targets: the events; those from `end_s` on are not read.
        days: what `example_days` chose.
        end_s: where learning ends, epoch seconds.
        log: the target events, sorted.
        retrievers: search for the candidates.
        recipe: how many passes, how fast.
        deadline_s: of `time.monotonic`; no day's examples and no step begin after it.

    Returns:
        The ranker, and how many steps there were.
    """
    ranker = copy.deepcopy(model.ranker)
    if recipe.ranker_passes == 0:
        return ranker.eval(), 0
    tables = Tables(data, model, log)
    examples: list[CutExamples] = []
    for begin_s, until_s in days:
        if time.monotonic() > deadline_s:
            break
        table = tables.at(begin_s)
        asked = user_days(targets, begin_s, until_s, table.retrievable)
        if len(asked):
            asked = _some(asked, recipe.questions_a_day_max, np.random.default_rng((recipe.seed, begin_s)))
            examples.append(build_examples(data, contender(model, table, retrievers), asked))
    if not any(cut.label.any() for cut in examples):
        return ranker.eval(), 0
    inputs = {name: value.clone() for name, value in ranker.named_buffers()}
    loss = RankerLoss.of(model.settings.ranker)
    task = RankerTask(ranker, examples, None, recipe.ranker_batch, recipe.seed, CPU, loss=loss)
    for name, value in inputs.items():  # the task fits them to its examples; these weights know the old ones
        ranker.get_buffer(name).copy_(value)
    calibrate(ranker, examples[0], CPU)  # a day's share of hits is not a month's: no step is lost on it
    steps = _fit(ranker, task, model.settings.ranker.weight_decay, recipe, deadline_s)
    _calibrate_to_horizon(model, ranker, data, tables, end_s, retrievers, inputs["calibration"])
    return ranker.eval(), steps


def _fit(ranker: Ranker, task: RankerTask, weight_decay: float, recipe: Recipe, deadline_s: float) -> int:
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=recipe.ranker_rate, weight_decay=weight_decay)
    ranker.train()
    steps = 0
    for epoch in range(recipe.ranker_passes):
        for loss in task.losses(epoch):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
            if time.monotonic() > deadline_s:
                return steps
    return steps


def _some(questions: Questions, count_max: int, generator: np.random.Generator) -> Questions:
    mask = np.zeros(len(questions), np.bool_)
    mask[generator.permutation(len(questions))[:count_max]] = True
    return questions.where(mask)


def _calibrate_to_horizon(
    model: TrainedModel,
    ranker: Ranker,
    data: LearningData,
    tables: Tables,
    end_s: int,
    retrievers: RetrieverFactory,
    before: torch.Tensor,
) -> None:
    """Makes the scores probabilities within the horizon again; a log too short for that keeps the calibration."""
    cut_s = end_s - model.settings.ranker.horizon_days * DAY_S
    embedder = UserEmbedder(model.user_tower, tables.vectors, model.settings.features.sequence_events_max)
    try:
        cut = build_cut(data, model.settings, embedder, ranker, tables.at(cut_s), retrievers, cut_s)
    except LogTooShortError:
        ranker.calibration.copy_(before)
        return
    calibrate(ranker, cut, CPU)
