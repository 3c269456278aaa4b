"""Which model an update publishes: the current one, its weights over new data, or updated weights over new data.

    questions   user-days after the events that the current weights learned from; the newest of them are the slice
    current     the weights and the item table of the current generation
    new data    the same weights, the item table of the moment when the slice begins
    learned     weights learned on from the events before the slice, the same table

All three answer the slice's questions with the same fresh histories, each asked before its events. The weights that
are published are those that were judged: what the slice holds is learned by the next update.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from towers.evaluation import Interactions
from towers.evaluation.metrics import FloatArray as MetricArray
from towers.features.histories import BoolArray
from towers.model import TrainedModel
from towers.schema import Dataset
from towers.training.cuts import RetrieverFactory
from towers.updating.judging import answer, lead, ndcg
from towers.updating.learning import Learned, Source, learn_on
from towers.updating.questions import Questions, user_days
from towers.updating.recipe import Recipe

Outcome = Literal["refused", "new data", "learned"]


@dataclass(frozen=True)
class Verdict:
    """What an update found.

    Attributes:
        outcome: what is published, if anything.
        model: that model.
        figures: NDCG of each contender and their paired differences, for the manifest and the log; JSON-able.
        reason: one sentence.
    """

    outcome: Outcome
    model: TrainedModel
    figures: dict[str, Any]
    reason: str


def hold_contest(
    model: TrainedModel,
    dataset: Dataset,
    as_of_s: int,
    retrievers: RetrieverFactory,
    recipe: Recipe,
    say: Callable[[str], None],
) -> Verdict:
    """Learns on, judges on the newest slice, and decides.

    Args:
        model: the current generation's.
        dataset: with all new events.
        as_of_s: what the current generation's item table knows, epoch seconds.
        retrievers: search for the candidates.
        recipe: limits of learning and judging.
        say: prints a line.
    """
    source = Source.of(dataset, model)
    targets = source.targets
    end_s = max(dataset.meta.last_time_s + 1, as_of_s)
    slice_ = _newest_slice(model, targets, min(model.ranker_until_s, as_of_s), end_s, recipe)
    if slice_ is None:
        return Verdict("new data", model, {"questions": 0}, "nothing new was bought: nothing to judge by")
    questions, learnable, begin_s = slice_
    scores = {
        "current": _judge(source, model, retrievers, min(as_of_s, begin_s), questions),
        "new data": _judge(source, model, retrievers, begin_s, questions),
    }
    models: dict[str, TrainedModel] = {"current": model, "new data": model}
    figures: dict[str, Any] = {"questions": len(questions), "slice_begin_s": begin_s}
    if learnable:
        learned = learn_on(model, source, model.ranker_until_s, begin_s, retrievers, recipe)
        say(_told(learned))
        scores["learned"] = _judge(source, learned.model, retrievers, begin_s, questions)
        models["learned"] = learned.model
        figures |= {"tower_steps": learned.tower_steps, "ranker_steps": learned.ranker_steps}
    else:
        say(f"weights stay: fewer than {recipe.questions_min} questions since they learned")
    return decide(scores, models, figures, recipe)


def _newest_slice(
    model: TrainedModel, targets: Interactions, begin_s: int, end_s: int, recipe: Recipe
) -> tuple[Questions, bool, int] | None:
    """The questions to judge by, whether enough lie before them to learn from, and when they begin."""
    asked = user_days(targets, begin_s, end_s, _candidates(model, targets, end_s))
    if len(asked) == 0:
        return None
    share = int(len(asked) * recipe.slice_share)
    count = min(max(share, recipe.questions_min // 2, 1), recipe.questions_max, len(asked))
    newest = np.sort(asked.asked_at_s)[-count:]
    begin = int(newest[0])
    learnable = len(asked) >= recipe.questions_min and bool((asked.asked_at_s < begin).any())
    return asked.between(begin, end_s), learnable, begin


def _candidates(model: TrainedModel, targets: Interactions, end_s: int) -> BoolArray:
    """(items,) what counts as right: items that enough users bought, the slice's events included."""
    users_min = max(model.settings.training.item_users_min, 1)
    pairs = targets.where(targets.time_s < end_s).distinct_pairs()
    return np.asarray(np.bincount(pairs.indices, minlength=targets.item_count) >= users_min)


def _judge(
    source: Source, model: TrainedModel, retrievers: RetrieverFactory, as_of_s: int, questions: Questions
) -> MetricArray:
    asked = source.contender(model, retrievers, as_of_s)
    return ndcg(answer(source.as_read_by(model), asked, questions), questions)


def decide(
    scores: dict[str, MetricArray], models: dict[str, TrainedModel], figures: dict[str, Any], recipe: Recipe
) -> Verdict:
    """The verdict over paired scores (Q,) of `current`, `new data` and, where weights learned, `learned`."""
    means = {name: float(values.mean()) for name, values in scores.items()}
    figures = figures | {"ndcg@20": {name: round(mean, 5) for name, mean in means.items()}}
    for name in ("new data", "learned"):
        if name in scores:
            ahead = lead(scores[name], scores["current"])
            figures[f"{name} - current"] = [round(value, 5) for value in (ahead.mean, ahead.low, ahead.high)]
    best = "learned" if "learned" in means and means["learned"] > means["new data"] else "new data"
    told = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    judged = f"NDCG@20 over {figures['questions']} questions: {told}"
    if means[best] < means["current"] - recipe.margin:
        return Verdict(
            "refused", models["current"], figures, f"{judged}; worse than the current by more than {recipe.margin}"
        )
    outcome: Outcome = "learned" if best == "learned" else "new data"
    model = models[outcome]
    return Verdict(outcome, replace(model, metrics=model.metrics | {"update": figures}), figures, judged)


def _told(learned: Learned) -> str:
    return (
        f"learned on in {learned.seconds:.1f} s: {learned.tower_steps} steps of the towers, "
        f"{learned.ranker_steps} of the ranker"
    )
