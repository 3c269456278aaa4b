from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from rich.progress import Progress

from tests.towers.training.test_ranker_task import CPU, cut_of, learnable_cut, new_ranker
from towers.settings import LearningSettings, RankerSettings
from towers.training import ranker_fitter
from towers.training.loop import Schedule, fit
from towers.training.ranker_fitter import RankerFitter, binary_opinion, listwise_opinion
from towers.training.ranker_outputs import ranker_logits
from towers.training.ranker_task import RankerLoss, RankerTask


def test_an_opinion_is_a_softmax_over_a_shoppers_candidates_or_each_ones_probability() -> None:
    cut = cut_of([True, False, False], [0, 0, 1])
    np.testing.assert_allclose(listwise_opinion(np.log([1, 3, 5]).astype(np.float32), cut), [0.25, 0.75, 1], rtol=1e-6)
    np.testing.assert_allclose(binary_opinion(np.log([1, 3]).astype(np.float32)), [0.5, 0.75], rtol=1e-6)


@pytest.mark.parametrize("kind", ["listwise", "binary"])
@pytest.mark.parametrize(("weight", "follows"), [(0.0, 1), (1.0, -1)])
def test_the_weight_says_whose_word_counts(kind: Literal["listwise", "binary"], weight: float, follows: int) -> None:
    """What is bought rises with the first input; the teachers say that it falls."""
    cut, ranker = learnable_cut(0), new_ranker()
    said = -2 * cut.pair[:, 0]
    opinions = [listwise_opinion(said, cut) if kind == "listwise" else binary_opinion(said)]
    loss = RankerLoss(kind, teachers_weight=weight)
    task = RankerTask(ranker, [cut], None, 100, seed=1, device=CPU, loss=loss, opinions=opinions)
    fit(task, Schedule(8, 8, 0.02, 1e-4, 1.0), seed=1, checkpoint=None, progress=Progress(disable=True))
    assert follows * np.corrcoef(ranker_logits(ranker, cut, CPU), cut.pair[:, 0])[0, 1] > 0.7


def test_teachers_are_of_other_seeds_and_the_ranker_learns_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LearningSettings(ranker=RankerSettings(loss="listwise", teachers=2, batch_size=100, epochs_max=2))
    shape = new_ranker().shape
    monkeypatch.setattr(ranker_fitter, "ranker_shape", lambda _: shape)
    kept: list[str] = []
    tasks: list[RankerTask] = []

    class Recorded(RankerTask):
        def __post_init__(self) -> None:
            tasks.append(self)
            super().__post_init__()

    monkeypatch.setattr(ranker_fitter, "RankerTask", Recorded)
    fitter = RankerFitter(settings, CPU, torch.float32, Progress(disable=True), None, lambda name: kept.append(name))
    cuts = [learnable_cut(0), learnable_cut(1)]
    model = new_ranker()
    fitter.fit("phase", model, cuts, None, stop_after=2)
    assert kept == ["teacher-1", "teacher-2", "ranker"]
    own = settings.training.seed
    assert [task.seed for task in tasks] == [own + 1, own + 2, own]
    first, second, student = tasks
    assert student.model is model
    assert first.opinions is None
    assert student.opinions is not None
    for place, cut in enumerate(cuts):
        said = [listwise_opinion(ranker_logits(task.model, cut, CPU), cut) for task in (first, second)]
        assert not np.allclose(*said)
        np.testing.assert_allclose(student.opinions[place], sum(said) / 2, rtol=1e-5)
