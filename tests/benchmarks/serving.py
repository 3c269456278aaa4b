"""`python -m tests.benchmarks.serving`: measures every path of every workload and writes var/bench/serving.json.

Repeats are interleaved: each path once, then each again, so that a machine's slow minute hits all of them. A finished
cell (workload, path, repeat) is a file; run again, only what is missing is measured. `--fresh` begins anew.
"""

from __future__ import annotations

import json
import os
import statistics
from typing import Annotated, Any

import typer
from rich.console import Console

from index.generation import open_generation
from index.generation.pointer import current_id
from index.item_ids import ItemIds
from tests.benchmarks.paths import PATHS, Shop, in_process, measure
from tests.benchmarks.processes import LOAD_CORE, PathMissing
from tests.benchmarks.synthetic_generation import REPORT_FILE, ensure_generation
from tests.benchmarks.workers import measure_workers
from tests.benchmarks.workloads import BENCH_DIR, DEMO, DEMO_ROOT, SYNTHETIC

CELLS_DIR = BENCH_DIR / "cells"
RESULT_FILE = BENCH_DIR / "serving.json"
USERS_ASKED = 20_000


def serving(
    workload: Annotated[list[str] | None, typer.Option(help="W0, W100k, W1M, W10M; several times for several")] = None,
    path: Annotated[list[str] | None, typer.Option(help="one of the paths; default all")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=25)] = 5,
    seconds: Annotated[float, typer.Option(help="of each closed loop", min=0.2)] = 3.0,
    fresh: Annotated[bool, typer.Option(help="forget what was measured before")] = False,
) -> None:
    """Measures, and sums up all that has been measured."""
    os.sched_setaffinity(0, {LOAD_CORE % (os.cpu_count() or 1)})
    console, paths = Console(soft_wrap=True), path or list(PATHS)
    if unknown := sorted(set(paths) - set(PATHS)):
        raise typer.BadParameter(f"no path {unknown}; there are {', '.join(PATHS)}")
    for name in workload or [DEMO, "W1M"]:
        shop = prepare(name, console)
        if fresh:
            for file in (CELLS_DIR / name).glob("*.json"):
                file.unlink()
        _once(shop, console)
        missing: set[str] = set()
        for repeat in range(repeats):
            for which in paths:
                if which not in missing and not _cell(shop, which, repeat, seconds, console):
                    missing.add(which)
        RESULT_FILE.write_text(json.dumps(summary(), indent=1))
    console.print(f"{RESULT_FILE}")


def prepare(name: str, console: Console) -> Shop:
    """The workload's generation, made when it is not there, and the file of its shoppers."""
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
    return Shop(name, root, file, _as_of_s(generation.manifest.metadata))


def _as_of_s(metadata: Any) -> float:
    return float(metadata["as_of_s"])


def _cell(shop: Shop, path: str, repeat: int, seconds: float, console: Console) -> bool:
    """Measures one cell unless it is there; False when the path cannot be had here."""
    file = CELLS_DIR / shop.workload / f"{path}-{repeat}.json"
    if file.exists():
        return True
    try:
        cell = measure(path, shop, seconds)
    except PathMissing as error:
        console.print(f"{shop.workload} {path}: skipped: {error}")
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(cell, indent=1))
    console.print(
        f"{shop.workload} {path} {repeat + 1}: {cell['rps']:.0f}/s, {cell['cpu_us']:.0f} µs of CPU, "
        f"p50 {cell['p50_ms']:.1f} ms, p99 {cell['p99_ms']:.1f} ms"
    )
    return True


def _once(shop: Shop, console: Console) -> None:
    """What is a property of the workload and not of a path: recall of the index, overlap of the lists."""
    file = CELLS_DIR / shop.workload / "workload.json"
    if file.exists():
        return
    report = BENCH_DIR / shop.workload / REPORT_FILE
    generation_id = current_id(shop.root)
    assert generation_id is not None
    manifest = open_generation(shop.root, generation_id).manifest
    metadata: Any = manifest.metadata
    facts: dict[str, Any] = {"recall_at_200": metadata["index"]["recall"]}
    if report.exists():
        facts |= {"synthetic": json.loads(report.read_text())}
    facts |= in_process("overlap", shop, 1.0)
    try:
        facts |= measure_workers(shop)
    except PathMissing as error:
        console.print(f"{shop.workload} workers: skipped: {error}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(facts, indent=1))
    console.print(f"{shop.workload}: {facts}")


def summary() -> dict[str, dict[str, Any]]:
    """Medians over the repeats, and spreads: (largest - smallest) / median."""
    result: dict[str, dict[str, Any]] = {}
    for directory in sorted(CELLS_DIR.iterdir()):
        facts = directory / "workload.json"
        result[directory.name] = json.loads(facts.read_text()) if facts.exists() else {}
        for path in PATHS:
            cells = [json.loads(file.read_text()) for file in sorted(directory.glob(f"{path}-?.json"))]
            if cells:
                result[directory.name][path] = _medians(cells)
                if path == "grpcio_unary" and "pss_mb" in cells[0]:
                    result[directory.name].setdefault("pss_mb_one", result[directory.name][path]["pss_mb"])
    return result


def _medians(cells: list[dict[str, float]]) -> dict[str, float]:
    out: dict[str, float] = {name: statistics.median(cell[name] for cell in cells) for name in cells[0]}
    for name in ("rps", "cpu_us"):
        values = [cell[name] for cell in cells]
        out[f"{name}_spread"] = (max(values) - min(values)) / out[name]
    return out | {"repeats": len(cells)}


if __name__ == "__main__":
    typer.run(serving)
