"""Fits a ranker, and before it its teachers: rankers of other seeds, whose mean opinion it learns too.

What a ranker says of a candidate varies from seed to seed; the mean of several varies less and ranks better, at several
times the cost of a request. A ranker that learns that mean beside what was bought keeps most of the gain at the cost of
one (Hinton et al. 2015, «Distilling the knowledge in a neural network»).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import Progress

from towers.features.histories import FloatArray
from towers.model import ranker_shape
from towers.models.ranker import Ranker
from towers.settings import LearningSettings
from towers.training.cuts import CutExamples
from towers.training.loop import Checkpoint, FitResult, Schedule, Watcher, fit
from towers.training.ranker_outputs import ranker_logits
from towers.training.ranker_task import RankerLoss, RankerTask


@dataclass(frozen=True)
class RankerFitter:
    """How rankers are fitted in one phase of a run.

    Attributes:
        settings: `ranker` and `training.seed` count. device, precision: where and how steps are computed.
        progress: the bars. watcher: hears of epochs.
        checkpoint: where a model of this name is kept between epochs.
    """

    settings: LearningSettings
    device: torch.device
    precision: torch.dtype
    progress: Progress
    watcher: Watcher | None
    checkpoint: Callable[[str], Checkpoint | None]

    def fit(
        self,
        name: str,
        model: Ranker,
        cuts: Sequence[CutExamples],
        held_out: CutExamples | None,
        stop_after: int | None,
    ) -> FitResult:
        """Fits `model` on the cuts, judged by `held_out`, or for `stop_after` epochs where they are known already."""
        opinions: list[FloatArray] | None = None
        for number in range(1, self.settings.ranker.teachers + 1):
            seed = self.settings.training.seed + number
            torch.manual_seed(seed)
            teacher = Ranker(ranker_shape(self.settings))
            self._fit_one(f"{name}: teacher {number}", f"teacher-{number}", seed, teacher, cuts, held_out, stop_after)
            said = [self._opinion(teacher, cut) for cut in cuts]
            opinions = said if opinions is None else [sum_ + one for sum_, one in zip(opinions, said, strict=True)]
        if opinions is not None:
            opinions = [total / np.float32(self.settings.ranker.teachers) for total in opinions]
        seed = self.settings.training.seed
        return self._fit_one(f"{name}: ranker", "ranker", seed, model, cuts, held_out, stop_after, opinions)

    def _fit_one(
        self,
        name: str,
        kept_as: str,
        seed: int,
        model: Ranker,
        cuts: Sequence[CutExamples],
        held_out: CutExamples | None,
        stop_after: int | None,
        opinions: list[FloatArray] | None = None,
    ) -> FitResult:
        ranker = self.settings.ranker
        torch.manual_seed(seed)
        task = RankerTask(
            model.to(self.device),
            cuts,
            held_out,
            ranker.batch_size,
            seed,
            self.device,
            name=name,
            loss=RankerLoss.of(ranker),
            vector_weight=ranker.vector_weight,
            opinions=opinions,
        )
        schedule = Schedule(
            ranker.epochs_max,
            ranker.patience,
            ranker.learning_rate,
            ranker.weight_decay,
            ranker.gradient_norm_max,
            stop_after=stop_after,
        )
        return fit(task, schedule, seed, self.checkpoint(kept_as), self.progress, self.precision, self.watcher)

    def _opinion(self, teacher: Ranker, cut: CutExamples) -> FloatArray:
        """(n,) what the teacher says of each candidate, in the form of the loss's target."""
        logit = ranker_logits(teacher, cut, self.device)
        return listwise_opinion(logit, cut) if self.settings.ranker.loss == "listwise" else binary_opinion(logit)


def listwise_opinion(logit: FloatArray, cut: CutExamples) -> FloatArray:
    """(n,) the softmax of the logits (n,) over each user's candidates."""
    user, count = cut.candidate_user, len(cut.user_row)
    highest = np.full(count, -np.inf, np.float32)
    np.maximum.at(highest, user, logit)
    weight = np.exp(logit - highest[user])
    total = np.bincount(user, weights=weight, minlength=count)
    opinion: FloatArray = (weight / np.maximum(total, 1e-30)[user]).astype(np.float32)
    return opinion


def binary_opinion(logit: FloatArray) -> FloatArray:
    """(n,) the probabilities of the logits (n,)."""
    return (1 / (1 + np.exp(-logit.astype(np.float64)))).astype(np.float32)
