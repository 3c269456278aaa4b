"""The run directory: what a colleague needs to understand a training and to repeat it.

run.json       settings, seed, dataset, device, precision, processes and versions of a run
epochs.jsonl   one line an epoch: task, number, loss, validation score, learning rate, seconds
metrics.json   the figures of the whole run, once it is over
curves.png     loss and validation by epoch (python -m towers train draws it)
config.toml    the shop's config as it was
checkpoints/   while it runs; a run that finds them goes on
"""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from towers.training.loop import Epoch

RUN_FILE, EPOCHS_FILE, METRICS_FILE, CURVES_FILE = "run.json", "epochs.jsonl", "metrics.json", "curves.png"
LIBRARIES = ("twinrank", "torch", "numpy", "numba", "polars", "scipy", "implicit")


def versions() -> dict[str, str]:
    """Of Python and of the libraries whose numbers a run depends on; one that is not installed is left out."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class RunRecord:
    """Writes the run directory while a training runs; a `Watcher`."""

    directory: Path

    def open(self, about: dict[str, Any], going_on: bool) -> None:
        """Begins the record anew, or goes on with that of an interrupted run of the same fingerprint."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / RUN_FILE
        same = file.exists() and json.loads(file.read_text("utf-8")).get("fingerprint") == about["fingerprint"]
        if not (going_on and same):
            for name in (EPOCHS_FILE, METRICS_FILE, CURVES_FILE):
                (self.directory / name).unlink(missing_ok=True)
        file.write_text(json.dumps(about, indent=1) + "\n", "utf-8")

    def begun(self, task: str, epochs_done: int) -> None:
        """Takes away lines of epochs that will be run again."""
        kept = [epoch for epoch in read_epochs(self.directory) if epoch.task != task or epoch.number <= epochs_done]
        (self.directory / EPOCHS_FILE).write_text("".join(_line(epoch) for epoch in kept), "utf-8")

    def ended(self, epoch: Epoch) -> None:
        """Appends the epoch's line."""
        with (self.directory / EPOCHS_FILE).open("a", encoding="utf-8") as file:
            file.write(_line(epoch))

    def close(self, metrics: dict[str, Any]) -> None:
        """Writes the figures."""
        (self.directory / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")


def _line(epoch: Epoch) -> str:
    measured = asdict(epoch) | {"score": None if math.isnan(epoch.score) else epoch.score}
    return json.dumps(measured | {"seconds": round(epoch.seconds, 3)}) + "\n"


def read_epochs(directory: Path) -> list[Epoch]:
    """All epochs of a run directory, in order; none where there is no record."""
    file = directory / EPOCHS_FILE
    if not file.exists():
        return []
    whole = [line for line in file.read_text("utf-8").splitlines() if line.endswith("}")]  # a kill may halve the last
    epochs = [Epoch(**json.loads(line)) for line in whole]
    return [replace(epoch, score=math.nan) if epoch.score is None else epoch for epoch in epochs]


def draw_curves(directory: Path) -> Path:
    """Draws the loss and the validation score of every task by epoch. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    tasks: dict[str, list[Epoch]] = {}
    for epoch in read_epochs(directory):
        tasks.setdefault(epoch.task, []).append(epoch)
    figure, grid = pyplot.subplots(2, max(len(tasks), 1), figsize=(3.2 * max(len(tasks), 1), 5), squeeze=False)
    for column, (task, epochs) in enumerate(tasks.items()):
        for row, (name, values) in enumerate(
            (("loss", [epoch.loss for epoch in epochs]), ("validation", [epoch.score for epoch in epochs]))
        ):
            axes = grid[row][column]
            axes.plot([epoch.number for epoch in epochs], values, "o-", markersize=3)
            axes.set(xlabel="epoch", ylabel=name, title=task if row == 0 else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(visible=True, alpha=0.3)
            if all(math.isnan(value) for value in values):
                axes.text(0.5, 0.5, "not validated", ha="center", transform=axes.transAxes)
    figure.tight_layout()
    file = directory / CURVES_FILE
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file
