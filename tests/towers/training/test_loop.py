from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor, nn

from towers.training.loop import Checkpoint, FitResult, Schedule, fit, progress_bar

STEPS = 4


class Interrupted(Exception):
    """Stands for the power cut in the middle of an epoch."""


class LinearTask:
    """Learns a line through noise, with dropout so that torch's random state matters; scores come from a script."""

    name = "line"

    def __init__(self, scores: Sequence[float] = (), interrupt_in_epoch: int | None = None) -> None:
        torch.manual_seed(11)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.weights_after: list[dict[str, Tensor]] = []
        self._scores = scores
        self._interrupt_in_epoch = interrupt_in_epoch

    def step_count(self) -> int:
        return STEPS

    def losses(self, epoch: int) -> Iterator[Tensor]:
        random = np.random.default_rng((1, epoch))
        for step in range(STEPS):
            if epoch == self._interrupt_in_epoch and step == 2:
                raise Interrupted
            inputs = torch.from_numpy(random.normal(size=(16, 3)).astype(np.float32))
            yield (self.model(inputs)[:, 0] - inputs.sum(dim=1)).square().mean()

    def validate(self) -> float:
        self.weights_after.append({name: value.clone() for name, value in self.model.state_dict().items()})
        assert not self.model.training
        return self._scores[len(self.weights_after) - 1] if self._scores else float("nan")


def fitted(
    task: LinearTask,
    checkpoint: Checkpoint | None = None,
    epochs_max: int = 5,
    patience: int = 2,
    stop_after: int | None = None,
    learning_rate: float = 0.05,
) -> FitResult:
    schedule = Schedule(epochs_max, patience, learning_rate, 1e-4, 1.0, stop_after)
    return fit(task, schedule, seed=3, checkpoint=checkpoint, progress=Progress(disable=True))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_training_stops_when_patience_is_spent_and_keeps_the_best_weights() -> None:
    task = LinearTask(scores=[0.1, 0.3, 0.2, 0.25, 0.9])
    result = fitted(task)
    assert (result.epochs, result.score) == (2, 0.3)
    assert [score for _, score in result.history] == [0.1, 0.3, 0.2, 0.25]
    assert same(task.model.state_dict(), task.weights_after[1])
    assert not same(task.model.state_dict(), task.weights_after[3])


def test_an_equal_score_is_no_gain() -> None:
    assert fitted(LinearTask(scores=[0.3, 0.3, 0.3, 0.9])).epochs == 1


def test_without_validation_every_epoch_is_run_and_the_last_is_kept() -> None:
    task = LinearTask()
    result = fitted(task, patience=1)
    assert result.epochs == 5
    assert math.isnan(result.score)
    assert same(task.model.state_dict(), task.weights_after[4])


def test_a_score_that_cannot_be_measured_once_never_replaces_a_measured_best() -> None:
    task = LinearTask(scores=[0.2, float("nan"), 0.1])
    result = fitted(task)
    assert (result.epochs, result.score) == (1, 0.2)
    assert same(task.model.state_dict(), task.weights_after[0])


def test_a_refit_stops_after_the_epochs_that_validation_chose_at_the_same_rates() -> None:
    refitted, unbroken = LinearTask(), LinearTask()
    assert fitted(refitted, stop_after=2).epochs == 2
    fitted(unbroken)
    assert len(refitted.weights_after) == 2
    assert same(refitted.model.state_dict(), unbroken.weights_after[1])


def test_the_loss_goes_down() -> None:
    losses = [loss for loss, _ in fitted(LinearTask(), epochs_max=8).history]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("interrupted_in", [0, 1, 3])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one_bit_for_bit(
    tmp_path: Path, interrupted_in: int
) -> None:
    scores = [0.1, 0.2, 0.3, 0.25, 0.4]
    unbroken = LinearTask(scores)
    expected = fitted(unbroken)
    checkpoint = Checkpoint(tmp_path / "deep" / "line.safetensors", "a")
    with pytest.raises(Interrupted):
        fitted(LinearTask(scores, interrupted_in), checkpoint)
    torch.manual_seed(99)  # whatever the new process did before
    resumed = LinearTask(scores[interrupted_in:])
    assert fitted(resumed, checkpoint) == expected
    assert len(resumed.weights_after) == 5 - interrupted_in
    assert same(resumed.model.state_dict(), unbroken.model.state_dict())


def test_a_run_that_was_already_over_is_not_run_again_and_gives_its_best_weights(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "line.safetensors", "a")
    first = LinearTask(scores=[0.1, 0.3, 0.2, 0.25, 0.9])
    result = fitted(first, checkpoint)
    again = LinearTask()
    assert fitted(again, checkpoint) == result
    assert again.weights_after == []
    assert same(again.model.state_dict(), first.model.state_dict())


def test_a_checkpoint_of_another_fingerprint_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "line.safetensors"
    fitted(LinearTask(scores=[0.5, 0.1, 0.1, 0.1]), Checkpoint(path, "other data"))
    task, fresh = LinearTask(), LinearTask()
    fitted(task, Checkpoint(path, "this data"))
    fitted(fresh)
    assert len(task.weights_after) == 5
    assert same(task.model.state_dict(), fresh.model.state_dict())


def test_checkpoints_leave_nothing_half_written_behind(tmp_path: Path) -> None:
    fitted(LinearTask(), Checkpoint(tmp_path / "line.safetensors", "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["line.safetensors"]


def test_a_loss_that_is_not_a_number_is_an_error_that_says_what_to_do() -> None:
    class Exploding(LinearTask):
        def losses(self, epoch: int) -> Iterator[Tensor]:
            for step, loss in enumerate(super().losses(epoch)):
                yield loss * (float("nan") if (epoch, step) == (1, 2) else 1.0)

    with pytest.raises(FloatingPointError, match="line: the loss became nan in step 3 of epoch 2; lower learning_rate"):
        fitted(Exploding())


def test_gradients_are_clipped() -> None:
    class Steep(LinearTask):
        def losses(self, epoch: int) -> Iterator[Tensor]:
            for loss in super().losses(epoch):
                yield loss * 1e20

    task = Steep()
    fitted(task)
    assert all(torch.isfinite(value).all() for value in task.model.state_dict().values())


def test_the_bar_shows_loss_and_steps() -> None:
    lines: list[str] = []
    bar = progress_bar()
    bar.disable = True
    original: Callable[..., None] = bar.update

    def record(*args: object, **fields: object) -> None:
        lines.append(str(fields.get("note")))
        original(*args, **fields)

    bar.update = record  # type: ignore[method-assign]
    fit(LinearTask(), Schedule(1, 1, 0.05, 0.0, 1.0), seed=3, checkpoint=None, progress=bar)
    assert len(lines) == STEPS + 1
    assert all(line.startswith("loss ") for line in lines[:-1])
    assert bar.tasks[0].finished
