"""One training loop for every model: AdamW, one-cycle rate, clipping, early stopping, checkpoint and resume.

Random choices of an epoch are seeded by (seed, epoch), so that a resumed run repeats what an unbroken one does. Under
torchrun the processes average their gradients (`distributed`). With bfloat16 the forward pass is autocast; weights,
gradients, optimizer and validation stay float32.
Checkpoints are safetensors with a JSON header, written beside and renamed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as ProgressTask
from rich.text import Text
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from towers.training import distributed


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn; `stop_after` ends a refit at the epoch that validation chose."""

    epochs_max: int
    patience: int
    learning_rate: float
    weight_decay: float
    gradient_norm_max: float
    stop_after: int | None = None


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came of it: the chosen epoch count, its validation score, and (loss, score) of every epoch."""

    epochs: int
    score: float
    history: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where to write after each epoch and to resume from; one of another fingerprint is ignored."""

    path: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch that ended: its number from 1, mean loss, validation score (NaN: none), last rate, and seconds."""

    task: str
    number: int
    loss: float
    score: float
    learning_rate: float
    seconds: float


class Watcher(Protocol):
    """Hears how a training goes; what it raises ends the training."""

    def begun(self, task: str, epochs_done: int) -> None:
        """A task begins, or goes on after so many epochs of an interrupted run."""
        ...

    def ended(self, epoch: Epoch) -> None:
        """An epoch ended, and its checkpoint is written."""
        ...


class Task(Protocol):
    """One model's training problem."""

    name: str

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    def step_count(self) -> int:
        """Steps in an epoch."""
        ...

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """One scalar loss a step of this process; the loop differentiates it before it asks for the next."""
        ...

    def validate(self) -> float:
        """A score on the validation split, higher is better; NaN where there is none."""
        ...


def fit(
    task: Task,
    schedule: Schedule,
    seed: int,
    checkpoint: Checkpoint | None,
    progress: Progress,
    precision: torch.dtype = torch.float32,
    watcher: Watcher | None = None,
) -> FitResult:
    """Trains until validation stops improving or the epochs end, and leaves the best weights in the model.

    Args:
        task: the model and its data.
        schedule: limits and rates.
        seed: seeds every epoch together with its number.
        checkpoint: where to write after each epoch and to resume from; None for no checkpoints.
        progress: shows loss, rate and remaining time.
        precision: of the forward pass in training, float32 or bfloat16.
        watcher: hears of every epoch; under torchrun in the first process alone.
    """
    parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    device = next(task.model.parameters()).device
    step_count = -(-task.step_count() // distributed.process_count())
    total = max(schedule.epochs_max * step_count, 1)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _one_cycle(step / total))
    run = _Run(task.model, optimizer, rates)
    if checkpoint is not None:
        run.resume(checkpoint)
    _stand_together(task.model, run.epoch, device)
    watcher = watcher if distributed.is_first() else None
    if watcher is not None:
        watcher.begun(task.name, run.epoch)
    last = schedule.epochs_max if schedule.stop_after is None else schedule.stop_after
    bar = progress.add_task(task.name, total=last * step_count, completed=run.epoch * step_count, note="")
    while run.epoch < last and not run.patience_spent(schedule.patience):
        started = time.monotonic()
        torch.manual_seed(seed * 1_000_003 + run.epoch + (distributed.process_number() << 40))
        task.model.train()
        autocast = _autocast(device, precision)
        losses = _forward(task.losses(run.epoch), autocast)
        loss = _epoch(
            task, losses, run, schedule.gradient_norm_max, lambda note: progress.update(bar, advance=1, note=note)
        )
        task.model.eval()
        with torch.inference_mode():
            score = task.validate() if distributed.is_first() else math.nan
        run.finish_epoch(loss, distributed.of_first(score, device))
        if checkpoint is not None and distributed.is_first():
            run.save(checkpoint)
        if watcher is not None:
            rate = float(optimizer.param_groups[0]["lr"])
            watcher.ended(Epoch(task.name, run.epoch, *run.history[-1], rate, time.monotonic() - started))
    run.restore_best()
    progress.update(bar, completed=last * step_count, note=f"best score {run.best_score:.4f}")
    task.model.eval()
    return FitResult(run.best_epoch, run.best_score, run.history)


class _RateColumn(ProgressColumn):
    """Steps a second, lately."""

    def render(self, task: ProgressTask) -> Text:
        """The rate, once there is one."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def progress_bar() -> Progress:
    """The bar that every training shows."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )


def _one_cycle(part: float) -> float:
    """Linear warm-up over the first tenth, cosine to a hundredth."""
    return max(part / 0.1, 0.01) if part < 0.1 else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (part - 0.1) / 0.9))


def _stand_together(model: nn.Module, epoch: int, device: torch.device) -> None:
    """All processes go on from the same epoch with the same weights."""
    if distributed.of_first(epoch, device) != epoch:
        raise RuntimeError(
            f"process {distributed.process_number()} would go on after epoch {epoch} and the first one elsewhere; "
            "under torchrun all processes need the same run directory"
        )
    distributed.share_weights(model.state_dict().values())


def _autocast(device: torch.device, precision: torch.dtype) -> Callable[[], AbstractContextManager[object]]:
    if precision == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=precision)


def _forward(losses: Iterator[Tensor], autocast: Callable[[], AbstractContextManager[object]]) -> Iterator[Tensor]:
    """The losses, each computed within autocast; differentiating it is left outside."""
    while True:
        with autocast():
            loss = next(losses, None)
        if loss is None:
            return
        yield loss


def _epoch(
    task: Task, losses: Iterator[Tensor], run: _Run, gradient_norm_max: float, show: Callable[[str], None]
) -> float:
    parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    device = parameters[0].device
    total, steps = 0.0, 0
    while True:
        loss = next(losses, None)
        learning = distributed.count(loss is not None, device)
        if not learning:
            break
        run.optimizer.zero_grad(set_to_none=True)
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / learning
        steps += 1
        if not math.isfinite(total):
            raise FloatingPointError(
                f"{task.name}: the loss became {total} in step {steps} of epoch {run.epoch + 1}; lower learning_rate"
            )
        distributed.average_gradients(parameters, learning)
        nn.utils.clip_grad_norm_(task.model.parameters(), gradient_norm_max)
        run.optimizer.step()
        run.rates.step()
        show(f"loss {total * distributed.process_count() / steps:.4f}")
    return distributed.total(total, device) / max(steps, 1)


class _Run:
    """Where a training stands: everything that a checkpoint holds."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, rates: torch.optim.lr_scheduler.LambdaLR
    ) -> None:
        self.model, self.optimizer, self.rates = model, optimizer, rates
        self.epoch, self.best_epoch, self.best_score = 0, 0, -math.inf
        self.history: list[tuple[float, float]] = []
        self.best: dict[str, Tensor] = {}

    def patience_spent(self, patience: int) -> bool:
        return self.epoch - self.best_epoch >= patience and self.best_epoch > 0

    def finish_epoch(self, loss: float, score: float) -> None:
        self.epoch += 1
        self.history.append((loss, score))
        unmeasured = math.isnan(score) and not math.isfinite(self.best_score)  # no validation: the newest is the best
        if unmeasured or score > self.best_score:
            self.best_epoch, self.best_score = self.epoch, score
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def restore_best(self) -> None:
        if self.best:
            self.model.load_state_dict(self.best)

    def save(self, checkpoint: Checkpoint) -> None:
        path = checkpoint.path
        state = self.optimizer.state_dict()["state"]
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        tensors |= {f"optimizer/{key}/{name}": v for key, slot in state.items() for name, v in slot.items()}
        header = {
            "fingerprint": checkpoint.fingerprint,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "history": self.history,
            "rates": self.rates.last_epoch,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".tmp")
        save_file(
            {name: value.contiguous().clone() for name, value in tensors.items()}, beside, {"run": json.dumps(header)}
        )
        os.replace(beside, path)

    def resume(self, checkpoint: Checkpoint) -> None:
        if not checkpoint.path.exists():
            return
        with safe_open(checkpoint.path, "pt") as file:
            header = json.loads(file.metadata()["run"])
            if header["fingerprint"] != checkpoint.fingerprint:
                return
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.epoch, self.best_epoch = header["epoch"], header["best_epoch"]
        self.best_score, self.history = header["best_score"], [tuple(pair) for pair in header["history"]]

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(part("model/"))
        self.best = part("best/")
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer/").items():
            key, slot = name.split("/", 1)
            state.setdefault(int(key), {})[slot] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.rates.load_state_dict({**self.rates.state_dict(), "last_epoch": header["rates"]})
        for group, base, shape in zip(
            self.optimizer.param_groups, self.rates.base_lrs, self.rates.lr_lambdas, strict=True
        ):
            group["lr"] = base * shape(header["rates"])
