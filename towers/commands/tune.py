"""`python -m towers tune CONFIG`: better settings, searched for on the validation time alone."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from towers.schema import load_dataset, read_shop_config

if TYPE_CHECKING:
    from towers.tuning.study import Found


class Part(StrEnum):
    """What is tuned."""

    towers = "towers"
    sources = "sources"
    ranker = "ranker"
    all = "all"


def tune(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file; [tune] says how.")],
    minutes: Annotated[float, typer.Option(help="Time for all searches together.", min=0.0)] = 30.0,
    trials: Annotated[int | None, typer.Option(help="Trials of each search, earlier runs' included.", min=1)] = None,
    part: Annotated[Part, typer.Option(help="What is tuned; all: one after the other.")] = Part.all,
    folds: Annotated[int | None, typer.Option(help="Validation periods of a trial; default [tune] folds.")] = None,
    out: Annotated[Path | None, typer.Option(help="Best settings; default <work_dir>/run/tune/best.toml.")] = None,
) -> None:
    """Search for settings before train_end, in a budget of minutes; an interrupted search goes on where it stopped."""
    from towers.commands.train import exact_search
    from towers.tuning.report import best_toml
    from towers.tuning.run import Tuning
    from towers.tuning.settings import TuneSettings

    shop = read_shop_config(config)
    settings = shop.tune if folds is None else TuneSettings.model_validate({**shop.tune.model_dump(), "folds": folds})
    directory = shop.run_dir / "tune"
    dataset = load_dataset(shop.dataset_dir)
    with _bar() as progress:
        bar = progress.add_task("tune", total=max(60 * minutes, 1), note="")
        started = time.monotonic()

        def show(name: str, state: str) -> None:
            spent = min(time.monotonic() - started, max(60 * minutes, 1))
            progress.update(bar, description=name, completed=spent, note=state)

        found = Tuning(dataset, shop.learning, settings, exact_search, directory, show).run(part.value, minutes, trials)
        progress.update(bar, completed=max(60 * minutes, 1), note="done")
    console = Console(soft_wrap=True)
    for search in found:
        _report(search, directory, console)
    file = out if out is not None else directory / "best.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(best_toml(found), "utf-8")
    console.print(f"best settings, to be merged into {config}: {file}")


def _bar() -> Progress:
    """The time spent of the budget, the running trial, the best so far."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )


def _report(search: Found, directory: Path, console: Console) -> None:
    from towers.tuning.report import plot, table, write_csv

    console.print(table(search))
    write_csv(search, directory / f"{search.name}.csv")
    try:
        plot(search, directory / f"{search.name}.png")
    except ImportError:
        console.print("trials not drawn: matplotlib is missing; pip install 'twinrank[train]'")
