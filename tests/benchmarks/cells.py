"""Cells: what was measured, one file for each (workload, path, repeat), and what follows from them.

A cell belongs to the generation that it was measured on; one of another generation counts as not measured.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.paths import PATHS
from tests.benchmarks.workloads import BENCH_DIR

CELLS_DIR = BENCH_DIR / "cells"
RESULT_FILE, DETAILS_FILE = BENCH_DIR / "serving.json", BENCH_DIR / "serving_details.json"
"""The figures under the names that were agreed, and everything that was measured beside them."""
FIGURES = ("rps", "cpu_us", "p50_ms", "p99_ms")
SPREAD_OF = ("rps", "cpu_us")
WORKLOAD_FIGURES = (
    "recall_at_200",
    "overlap_at_20",
    "pss_mb_one",
    "pss_mb_per_further_worker",
    "ready_s_four",
    "rebuild_s",
)
GENERATION, COMMIT, WALL_S = "generation_id", "commit", "wall_s"
FACTS = "facts"


def cell_file(workload: str, path: str, repeat: int) -> Path:
    """Where a cell lies; facts of a workload are measured once, as repeat 0."""
    return CELLS_DIR / workload / f"{path}-{repeat}.json"


def read_cell(file: Path, generation_id: str | None = None) -> dict[str, Any] | None:
    """A cell, if it is there and of that generation."""
    if not file.exists():
        return None
    cell: dict[str, Any] = json.loads(file.read_text())
    return cell if generation_id in (None, cell.get(GENERATION)) else None


def write_cell(file: Path, cell: dict[str, Any]) -> None:
    """Whole or not at all, so that an interruption leaves none that is half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(cell, indent=1))
    partial.rename(file)


def write_results() -> dict[str, dict[str, Any]]:
    """Both result files, from all cells that there are; returns the details."""
    details = {directory.name: _workload(directory) for directory in _directories()}
    DETAILS_FILE.write_text(json.dumps(details, indent=1))
    RESULT_FILE.write_text(json.dumps({name: figures(found) for name, found in details.items()}, indent=1))
    return details


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """One workload with the agreed names alone."""
    wanted = [name for figure in FIGURES for name in (figure, *([f"{figure}_spread"] if figure in SPREAD_OF else []))]
    paths = {path: {name: found[path][name] for name in wanted} for path in PATHS if path in found}
    return paths | {name: found[name] for name in WORKLOAD_FIGURES if name in found}


def _directories() -> Iterator[Path]:
    return (directory for directory in sorted(CELLS_DIR.iterdir()) if directory.is_dir())


def _workload(directory: Path) -> dict[str, Any]:
    """Facts, and of each path the medians over the repeats of the newest generation among its cells."""
    cells = {file: json.loads(file.read_text()) for file in sorted(directory.glob("*-*.json"))}
    newest = max((str(cell.get(GENERATION, "")) for cell in cells.values()), default="")  # ids begin with their time
    found: dict[str, Any] = {}
    for file, cell in cells.items():
        if cell.get(GENERATION, "") == newest and file.stem.partition("-")[0] not in PATHS:
            found |= {name: value for name, value in cell.items() if name not in (GENERATION, COMMIT, WALL_S)}
    for path in PATHS:
        repeats = [cells[file] for file in sorted(cells) if file.stem.rpartition("-")[0] == path]
        if repeats := [cell for cell in repeats if cell.get(GENERATION, "") == newest]:
            found[path] = medians(repeats)
    return found


def medians(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the repeats, and spreads: (largest - smallest) / median."""
    numbers = [name for name, value in cells[0].items() if isinstance(value, int | float)]
    out: dict[str, Any] = {name: statistics.median(cell[name] for cell in cells if name in cell) for name in numbers}
    for name in SPREAD_OF:
        values = [cell[name] for cell in cells]
        out[f"{name}_spread"] = (max(values) - min(values)) / out[name]
    return out | {"repeats": len(cells), "commits": sorted({str(cell.get(COMMIT)) for cell in cells})}
