"""What a search found, for people: the best settings as TOML, a table, all trials as CSV, a plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit
from rich.table import Table

from towers.tuning.settings import Range
from towers.tuning.study import Found, TrialResult

TABLE_TRIALS = 5


def best_toml(found: Sequence[Found]) -> str:
    """The best values of all searches as sections of a shop's TOML, with what they were worth as comments."""
    document = tomlkit.document()
    for search in found:
        best, present = search.best, search.trials[0]
        worth = f"{search.name}: {best.score:.4f}, as it was {present.score:.4f}; mean of {search.folds} folds"
        document.add(tomlkit.comment(f"{worth}, {len(search.trials)} trials"))
    for search in found:
        for path, value in search.best.values.items():
            *sections, key = path.split(".")
            place: Any = document
            for depth, section in enumerate(sections):
                if section not in place:
                    place.add(section, tomlkit.table(is_super_table=depth + 1 < len(sections)))
                place = place[section]
            place.add(key, value)
    return tomlkit.dumps(document)


def table(found: Found) -> Table:
    """The settings as they were beside those of the best trials, one column a trial."""
    measured = sorted((trial for trial in found.trials if trial.score is not None), key=lambda t: -(t.score or 0.0))
    trials = [found.trials[0], *(trial for trial in measured[:TABLE_TRIALS] if trial is not found.trials[0])]
    shown = Table(title=f"{found.name}: {len(found.trials)} trials, {_given_up(found)} given up early")
    shown.add_column("setting")
    for trial in trials:
        shown.add_column("as it was" if trial is found.trials[0] else f"trial {trial.number + 1}", justify="right")
    for path in found.space:
        shown.add_row(path, *(str(trial.values[path]) for trial in trials))
    shown.add_section()
    for fold in range(found.folds):
        shown.add_row(f"fold {fold + 1}", *(f"{trial.fold_scores[fold]:.4f}" for trial in trials))
    shown.add_row("score, their mean", *(f"{trial.score:.4f}" for trial in trials))
    shown.add_row("seconds", *(f"{trial.seconds:.0f}" for trial in trials))
    return shown


def _given_up(found: Found) -> int:
    return sum(trial.score is None for trial in found.trials)


def write_csv(found: Found, file: Path) -> None:
    """Every trial; the score of one that was given up is empty."""
    names = list(found.space)
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["trial", "score", "reached", "seconds", *names])
        for trial in found.trials:
            score = "" if trial.score is None else trial.score
            values = [trial.values[name] for name in names]
            writer.writerow([trial.number + 1, score, trial.reached, round(trial.seconds, 1), *values])


def plot(found: Found, file: Path) -> None:
    """Scores by trial with the best so far, and by each setting. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = 1 + len(found.space)
    columns = min(panels, 4)
    rows = -(-panels // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(3.4 * columns, 2.8 * rows), squeeze=False, sharey=True)
    places = [axes for line in grid for axes in line]
    _by_trial(places[0], found)
    for axes, (path, dimension) in zip(places[1:], found.space.items(), strict=False):
        measured = [trial for trial in found.trials if trial.score is not None]
        values = [trial.values[path] for trial in measured]
        ranged = isinstance(dimension, Range)
        axes.scatter(values if ranged else [str(value) for value in values], [t.score for t in measured], s=12)
        axes.set_title(path)
        if isinstance(dimension, Range) and dimension.log:
            axes.set_xscale("log")
    for axes in places[panels:]:
        axes.set_visible(False)
    for axes in places:
        axes.grid(visible=True, alpha=0.3)
        axes.tick_params(labelsize=7)
        axes.title.set_fontsize(8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _by_trial(axes: Any, found: Found) -> None:
    ended = [trial for trial in found.trials if trial.score is not None]
    early = [trial for trial in found.trials if trial.score is None]
    axes.plot([trial.number + 1 for trial in ended], [trial.score for trial in ended], "o", markersize=4)
    axes.plot(
        [trial.number + 1 for trial in early], [trial.reached for trial in early], "x", color="grey", markersize=4
    )
    axes.step([trial.number + 1 for trial in ended], _best_so_far(ended), where="post")
    axes.set_title(f"{found.name}: score by trial (×: given up)")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _best_so_far(trials: Sequence[TrialResult]) -> list[float]:
    best: list[float] = []
    for trial in trials:
        best.append(max([*best[-1:], trial.score or 0.0]))
    return best
