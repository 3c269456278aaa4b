"""`python -m tests.benchmarks.serving`: measures every path of every workload and writes var/bench/serving.json.

Repeats are interleaved: each path once, then each again, so that a machine's slow minute hits all of them. A finished
cell (workload, path, repeat) is a file; run again, only what is missing is measured. `--fresh` begins anew.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from index.generation import open_generation
from index.generation.pointer import current_id
from index.item_ids import ItemIds
from tests.benchmarks.cells import (
    CELLS_DIR,
    COMMIT,
    GENERATION,
    RESULT_FILE,
    WALL_S,
    cell_file,
    read_cell,
    write_cell,
    write_results,
)
from tests.benchmarks.load import IN_FLIGHT
from tests.benchmarks.paths import GROWTH_PATHS, PATHS, Shop, in_process, measure
from tests.benchmarks.plots import draw
from tests.benchmarks.processes import LOAD_CORE, PathMissing
from tests.benchmarks.rebuild import measure_rebuild
from tests.benchmarks.synthetic_generation import ensure_generation
from tests.benchmarks.table import tables
from tests.benchmarks.workers import measure_workers
from tests.benchmarks.workloads import BENCH_DIR, DEMO, DEMO_ROOT, SYNTHETIC

USERS_ASKED = 20_000
FACTS: dict[str, Callable[[Shop], dict[str, float]]] = {
    "overlap": lambda shop: in_process("overlap", shop, 1.0),
    "workers": measure_workers,
    "rebuild": lambda shop: measure_rebuild(shop.workload),
}
"""What is a property of the workload and not of a path: measured once."""
PLAN = {DEMO: (*FACTS, *PATHS), "W1M": (*FACTS, *PATHS), "W100k": ("overlap", *GROWTH_PATHS)}
"""What is measured when nothing is asked for; W10M is asked for by name."""
CELL_S_GUESSED = 20.0


@dataclass(frozen=True)
class Cell:
    """One measurement to make."""

    label: str
    shop: Shop
    generation_id: str
    path: str
    repeat: int


def serving(
    workload: Annotated[
        list[str] | None, typer.Option(help=f"of {DEMO}, {', '.join(SYNTHETIC)}; several times")
    ] = None,
    path: Annotated[list[str] | None, typer.Option(help="a path, overlap, workers or rebuild; default all")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=9)] = 5,
    seconds: Annotated[float, typer.Option(help="of each closed loop", min=0.2)] = 4.0,
    in_flight: Annotated[int, typer.Option(help="requests under way in a closed loop", min=1)] = IN_FLIGHT,
    minutes: Annotated[float, typer.Option(help="begins no cell that would end later", min=0.1)] = 60.0,
    fresh: Annotated[bool, typer.Option(help="forget what was measured before of these workloads")] = False,
) -> None:
    """Measures, and sums up all that has been measured."""
    began = time.monotonic()
    os.sched_setaffinity(0, {LOAD_CORE % (os.cpu_count() or 1)})
    console = Console(soft_wrap=True)
    if unknown := sorted(set(path or ()) - {*FACTS, *PATHS}):
        raise typer.BadParameter(f"no path {unknown}; there are {', '.join((*FACTS, *PATHS))}")
    if unknown := sorted(set(workload or ()) - {DEMO, *SYNTHETIC}):
        raise typer.BadParameter(f"no workload {unknown}; there are {', '.join((DEMO, *SYNTHETIC))}")
    deadline, left = began + minutes * 60, 0
    for name in workload or PLAN:
        label = name if in_flight == IN_FLIGHT else f"{name}-{in_flight}-in-flight"
        if fresh:
            for file in (CELLS_DIR / label).glob("*.json"):
                file.unlink()
        shop, generation_id = prepare(name, label, console)
        wanted = path or PLAN.get(name, PLAN["W100k"])
        cells = [
            Cell(label, shop, generation_id, one, repeat)
            for repeat in range(repeats)
            for one in wanted
            if (one not in FACTS or repeat == 0) and read_cell(cell_file(label, one, repeat), generation_id) is None
        ]
        if cells:
            about_s = sum(map(_expected_s, cells))
            console.print(f"{label}: {len(cells)} cells to measure, about {about_s / 60:.0f} min")
        left += _measure(cells, seconds, in_flight, deadline, console)
    print(tables(write_results()))
    draw(BENCH_DIR)
    console.print(f"{RESULT_FILE} after {(time.monotonic() - began) / 60:.0f} min")
    if left:
        console.print(f"{left} cells are missing; run again to go on")
        raise typer.Exit(1)


def prepare(name: str, label: str, console: Console) -> tuple[Shop, str]:
    """The workload's generation, made when it is not there, the file of its shoppers, and what its manifest says."""
    root = DEMO_ROOT
    if name != DEMO:
        console.print(f"{name}: generation of {SYNTHETIC[name].item_count:,} items")
        root = ensure_generation(SYNTHETIC[name])
    generation_id = current_id(root)
    if generation_id is None:
        raise typer.BadParameter(f"{name}: no generation at {root}; run make demo first")
    generation = open_generation(root, generation_id)
    users = ItemIds.open(generation.path("users.ids"))
    file = BENCH_DIR / name / "users.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(users.ids(list(range(min(len(users), USERS_ASKED))))))
    metadata: Any = generation.manifest.metadata
    facts = {"recall_at_200": metadata["index"]["recall"], "item_count": metadata["item_count"]}
    write_cell(cell_file(label, "manifest", 0), facts | {GENERATION: generation_id})
    return Shop(name, root, file, float(metadata["as_of_s"])), generation_id


def _measure(cells: list[Cell], seconds: float, in_flight: int, deadline: float, console: Console) -> int:
    """Measures the cells in turn while there is time; returns how many are still missing that can be had here."""
    commit, unavailable, failed = _commit(), set[str](), 0
    for place, cell in enumerate(cells):
        if cell.path in unavailable:
            continue
        if time.monotonic() + _expected_s(cell) > deadline:
            console.print(f"{cell.label}: no time is left for {cell.path}")
            return failed + len([later for later in cells[place:] if later.path not in unavailable])
        began = time.monotonic()
        try:
            found = FACTS[cell.path](cell.shop) if cell.path in FACTS else _path(cell, seconds, in_flight)
        except PathMissing as error:
            console.print(f"{cell.label} {cell.path}: skipped: {error}")
            unavailable.add(cell.path)
            continue
        except (RuntimeError, TimeoutError) as error:
            console.print(f"{cell.label} {cell.path}: does not count: {error}")
            failed += 1
            continue
        about = {GENERATION: cell.generation_id, COMMIT: commit, WALL_S: time.monotonic() - began}
        write_cell(cell_file(cell.label, cell.path, cell.repeat), found | about)
        console.print(f"{cell.label} {cell.path} {cell.repeat + 1}: {_short(found)}")
    return failed


def _path(cell: Cell, seconds: float, in_flight: int) -> dict[str, float]:
    return measure(cell.path, cell.shop, seconds, in_flight)


def _short(found: dict[str, float]) -> str:
    if "rps" not in found:
        return ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    others = f", others took {found['others_share']:.2f} of a core" if found.get("others_share", 0) > 0.1 else ""
    return (
        f"{found['rps']:.0f}/s, {found['cpu_us']:.0f} µs of CPU, p50 {found['p50_ms']:.1f} ms, "
        f"p99 {found['p99_ms']:.1f} ms{others}"
    )


def _expected_s(cell: Cell) -> float:
    """How long a cell takes, from those of its path that there are, of whatever workload."""
    known = [read_cell(file) or {} for file in CELLS_DIR.glob(f"{cell.label}/{cell.path}-*.json")]
    known = known or [read_cell(file) or {} for file in CELLS_DIR.glob(f"*/{cell.path}-*.json")]
    walls = [float(found[WALL_S]) for found in known if WALL_S in found]
    return statistics.median(walls) if walls else CELL_S_GUESSED


def _commit() -> str:
    """Which code is measured."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    typer.run(serving)
