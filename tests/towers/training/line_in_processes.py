"""Fits small models in the processes of torchrun, for test_distributed: `FILE BATCH_SIZE`; the first one writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from towers.models.ranker import Ranker, RankerShape
from towers.training import distributed
from towers.training.cuts import CutExamples
from towers.training.loop import Schedule, fit
from towers.training.ranker_task import RankerTask

EXAMPLES = 101  # 13 batches of 8 in 7 steps of two processes: in the last one the second process has none


class LineTask:
    """Least squares; a layer that no loss reaches, and one that only the first process's loss reaches."""

    name = "line"

    def __init__(self, batch_size: int) -> None:
        torch.manual_seed(5 + distributed.process_number())  # the first process's weights are everyone's
        self.model = nn.ModuleDict({"line": nn.Linear(3, 1), "unused": nn.Linear(2, 2), "first": nn.Linear(1, 1)})
        random = np.random.default_rng(0)
        self._inputs = torch.from_numpy(random.normal(size=(EXAMPLES, 3)).astype(np.float32))
        self._target = self._inputs @ torch.tensor([1.0, -2.0, 0.5])
        self._batch_size = batch_size

    def step_count(self) -> int:
        return -(-EXAMPLES // self._batch_size)

    def losses(self, epoch: int) -> Iterator[Tensor]:
        order = np.random.default_rng((0, epoch)).permutation(EXAMPLES)
        for begin in distributed.own_steps(range(0, EXAMPLES, self._batch_size)):
            chosen = order[begin : begin + self._batch_size]
            loss = (self.model["line"](self._inputs[chosen])[:, 0] - self._target[chosen]).square().mean()
            yield loss + self.model["first"].weight.sum() * 0 if distributed.is_first() else loss

    def validate(self) -> float:
        assert distributed.is_first()
        return -float((self.model["line"](self._inputs)[:, 0] - self._target).square().mean())


def fitted(batch_size: int) -> dict[str, object]:
    task = LineTask(batch_size)
    schedule = Schedule(5, 5, 0.05, 1e-4, 10.0)
    result = fit(task, schedule, seed=1, checkpoint=None, progress=Progress(disable=True))
    weights = {name: value.tolist() for name, value in task.model.state_dict().items()}
    return {"history": result.history, "weights": weights, "processes": distributed.process_count()}


def ranked(batch_size: int) -> dict[str, object]:
    """The real ranker's task, with a batch in the last step for the first process alone."""
    random = np.random.default_rng(0)
    users, each = 15, 12
    cut = CutExamples(
        user_row=np.arange(users, dtype=np.int32),
        request=random.normal(size=(users, 4)).astype(np.float32),
        item=random.normal(size=(30, 3)).astype(np.float32),
        candidate_user=np.repeat(np.arange(users, dtype=np.int32), each),
        candidate_item=random.integers(0, 30, users * each).astype(np.int32),
        pair=random.normal(size=(users * each, 2)).astype(np.float32),
        label=random.random(users * each) < 0.3,
    )
    torch.manual_seed(5)
    model = Ranker(RankerShape(request=4, item=3, pair=2, hidden=(8, 4)))
    task = RankerTask(model, [cut], cut, batch_size, seed=1, device=torch.device("cpu"))
    result = fit(task, Schedule(3, 3, 0.05, 1e-4, 1.0), seed=1, checkpoint=None, progress=Progress(disable=True))
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    return {"history": result.history, "weights": weights}


if __name__ == "__main__":
    with distributed.process_group(on_cuda=False):
        outcome = {"line": fitted(int(sys.argv[2])), "ranker": ranked(int(sys.argv[2]))}
        Path(f"{sys.argv[1]}.{distributed.process_number()}").write_text(json.dumps(outcome), "utf-8")
