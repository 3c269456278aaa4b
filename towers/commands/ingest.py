"""`python -m towers ingest CONFIG`: make a shop's dataset and say what happened to its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from towers.ingest import STAGES, ingest_shop, summary_table
from towers.schema import read_shop_config


def ingest(config: Annotated[Path, typer.Argument(help="The shop's TOML file.")]) -> None:
    """Read a shop's files, clean them and write its dataset."""
    shop = read_shop_config(config)
    columns = (TextColumn("{task.description:16}"), BarColumn(), TimeElapsedColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("starting", total=len(STAGES))

        def show(stage: str) -> None:
            progress.update(task, description=stage, completed=STAGES.index(stage))

        report = ingest_shop(shop, on_stage=show)
    Console(soft_wrap=True).print(summary_table(report))
