"""`python -m towers train CONFIG`: tune on the validation month, refit with it, and write the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from towers.schema import load_dataset, read_shop_config

if TYPE_CHECKING:
    from towers.candidates import ItemTable


def train(config: Annotated[Path, typer.Argument(help="The shop's TOML file.")]) -> None:
    """Train the towers and the ranker on the shop's dataset; an interrupted training goes on where it stopped.

    Under torchrun its processes learn together: torchrun --standalone --nproc-per-node 2 -m towers train CONFIG
    """
    from towers.training.distributed import is_first, process_group
    from towers.training.loop import progress_bar
    from towers.training.run import TrainingRun, choose_device

    shop = read_shop_config(config)
    dataset = load_dataset(shop.dataset_dir)
    console = Console(soft_wrap=True)
    with process_group(choose_device(shop.learning.training.device).type == "cuda"), progress_bar() as progress:
        progress.disable = not is_first()
        say = progress.console.print if is_first() else _nothing
        model = TrainingRun(dataset, shop.learning, exact_search, shop.run_dir, progress, say).run()
        if not is_first():
            return
    model.write(shop.run_dir / "model")
    shutil.copyfile(config, shop.run_dir / "config.toml")
    _draw(shop.run_dir, console)
    console.print(f"model in {shop.run_dir / 'model'}, trained in {model.metrics['seconds']} s")


def _nothing(_: object) -> None:
    """What every process but the first has to say."""


def _draw(run_dir: Path, console: Console) -> None:
    from towers.training.record import draw_curves

    try:
        console.print(f"curves: {draw_curves(run_dir)}")
    except ImportError:
        console.print("curves not drawn: matplotlib is missing; pip install 'twinrank[train]'")


def exact_search(table: ItemTable) -> ExactRetriever:
    """Exact search over a table's retrievable items."""
    return ExactRetriever(table)


class ExactRetriever:
    """The index's exact searcher, answering in the table's rows."""

    def __init__(self, table: ItemTable) -> None:
        from index.exact import ExactSearcher

        self._rows = np.flatnonzero(table.retrievable)
        self._searcher = ExactSearcher(table.vectors[self._rows])

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(B, D) → scores (B, k) descending and item rows (B, k), -1 pads."""
        scores, places = self._searcher.search(queries, k)
        return scores, np.where(places >= 0, self._rows[places], -1)
