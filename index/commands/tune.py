"""`python -m index tune CONFIG`: every kind of index on this shop's items, and the best one into the config.

Reads the current generation: its item vectors, and what its user tower makes of its users' histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tomlkit
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from index.commands.location import errors_in_one_line, fail, print_table
from index.config import IndexConfig
from index.generation import open_generation
from index.generation.pointer import current_id
from index.sweep import BATCH_SIZE, Point, choose, frontier, sweep

if TYPE_CHECKING:
    from server.serving_model import ServingModel

PLOT_FILE = "index_tuning.png"


def tune(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file; its [index] section is written.")],
    recall: Annotated[float, typer.Option(help="Wanted recall@k of the candidates.", min=0.01, max=1.0)] = 0.95,
    write: Annotated[bool, typer.Option(help="Write the choice into the config.")] = True,
    plot: Annotated[Path | None, typer.Option(help="PNG of the frontier; default beside the generations.")] = None,
    root: Annotated[Path | None, typer.Option(help="Another directory of generations than the shop's.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Beginning of a kind's name, such as IVF; may be repeated. Default: all.")
    ] = None,
) -> None:
    """Sweep exact, IVF, PQ fast-scan, HNSW, NSG and SVS; show recall against µs; choose for the wanted recall."""
    from server.fitness import GenerationUnfit
    from server.model import open_serving_model
    from towers.schema import DataError, read_shop_config

    console = Console(stderr=True, soft_wrap=True)
    with errors_in_one_line():
        try:
            shop = read_shop_config(config)
            index_config = IndexConfig.model_validate(shop.index)
            generations = root if root is not None else shop.generations_dir
            generation_id = current_id(generations)
            if generation_id is None:
                fail(f"no generation in {generations}; run python -m index rebuild {config} first")
            serving = open_serving_model(open_generation(generations, generation_id))
        except (DataError, GenerationUnfit, ValidationError) as error:
            fail(str(error))
        vectors = np.ascontiguousarray(serving.snapshot.items.vectors[: serving.snapshot.retrievable_count])
        queries = _user_vectors(serving, index_config)
        points = list(sweep(vectors, queries, index_config, console.print, only or ()))
        best = choose(points, recall)
        print_table(_table(points, best))
        file = plot if plot is not None else generations.parent / PLOT_FILE
        _plot(points, index_config.recall_k, file)
        console.print(f"frontier: {file}")
        if best is None:
            fail(f"nothing that the server serves reaches recall {recall}; ask for less")
        if write:
            _write(config, best)
            console.print(f"[index] of {config}: {best.name}, effort {best.effort}; the next rebuild takes it")


def _user_vectors(serving: ServingModel, config: IndexConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(q, D) of users with a history, evenly spread, each as of just after their newest event."""
    from towers.recommender import Shoppers, UserEmbedder

    log, users, features = serving.snapshot.histories, serving.snapshot.users, serving.model.settings.features
    active = np.flatnonzero(np.diff(log.offsets) > 0)
    if len(active) == 0:
        fail("the generation knows no user with a history, so there is nothing to ask")
    chosen = active[np.linspace(0, len(active) - 1, min(len(active), config.tuning_query_count_max)).astype(np.int64)]
    rows = chosen.astype(np.int32)
    as_of_s = log.time_s[log.offsets[rows + 1] - 1] + 1
    shoppers = Shoppers.of(
        log.batch(rows, as_of_s, features.history_events_max),
        users.bucket[rows],
        users.attribute[rows],
        np.zeros((len(rows), len(serving.contexts)), np.int32),
    )
    embedder = UserEmbedder(serving.model.user_tower, serving.snapshot.items.vectors, features.sequence_events_max)
    return np.ascontiguousarray(embedder.embed(shoppers).vectors)


def _table(points: Sequence[Point], best: Point | None) -> Table:
    table = Table("", "kind", "effort", "recall", "µs alone", f"µs in {BATCH_SIZE}", "private MB", "built in s")
    on_frontier = frontier(points)
    for point in points:
        mark = "chosen" if point is best else "*" if point in on_frontier else ""
        figures = (f"{point.single_us:.0f}", f"{point.batch_us:.0f}", f"{point.private_mb:.0f}", f"{point.build_s:.1f}")
        table.add_row(mark, point.name, str(point.effort or ""), f"{point.recall:.4f}", *figures)
    return table


def _plot(points: Sequence[Point], k: int, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name in dict.fromkeys(point.name for point in points):
        of_kind = [point for point in points if point.name == name]
        axes.plot([point.batch_us for point in of_kind], [point.recall for point in of_kind], "o-", label=name)
    best = frontier(points)
    axes.plot([point.batch_us for point in best], [point.recall for point in best], "k:", label="frontier")
    axes.set(xscale="log", xlabel=f"µs a query in batches of {BATCH_SIZE}, one thread", ylabel=f"recall@{k}")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def _write(config: Path, best: Point) -> None:
    """Sets the keys of [index] and leaves every other line and comment as it is."""
    assert best.kind is not None
    document = tomlkit.parse(config.read_text("utf-8"))
    section: Any = document.setdefault("index", tomlkit.table())
    for key in ("list_count", "probe_count", "search_effort"):
        section.pop(key, None)
    section["kind"] = best.kind.value
    if best.kind.is_ivf:
        section["list_count"], section["probe_count"] = best.list_count, best.effort
    elif best.kind.is_hnsw:
        section["search_effort"] = best.effort
    config.write_text(tomlkit.dumps(document), "utf-8")
