"""`python -m tests.benchmarks.variants`: each way to compute the user tower and the ranker, in one table.

Writes var/bench/variants.json and var/bench/variants.md. Every variant runs alone, in a process of its own on one core,
over real requests of W1M (costs, quality) and W0 (quality: its model is a trained one).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tests.benchmarks.processes import ONE_THREAD, SERVER_CORE
from tests.benchmarks.variants.catalogue import VARIANTS
from tests.benchmarks.variants.measure import BATCH_SIZES
from tests.benchmarks.variants.recorded import record
from tests.benchmarks.variants.variant import Part
from tests.benchmarks.workloads import BENCH_DIR, DEMO, SYNTHETIC

JSON_FILE, TABLE_FILE = BENCH_DIR / "variants.json", BENCH_DIR / "variants.md"
REQUESTS = 1_024
TIMEOUT_S = 600
LINE_MAX = 160


def variants(
    workload: Annotated[
        list[str] | None, typer.Option(help="default W1M and W0; the first one gives the costs")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="part of a variant's name; default all")] = None,
    requests: Annotated[int, typer.Option(min=256)] = REQUESTS,
) -> None:
    """Measures, and prints the table. Variants that are not asked for keep the rows they had."""
    console, workloads = Console(soft_wrap=True, stderr=True), workload or ["W1M", DEMO]
    if unknown := sorted(set(workloads) - {DEMO, *SYNTHETIC}):
        raise typer.BadParameter(f"no workload {unknown}")
    result: dict[str, Any] = json.loads(JSON_FILE.read_text()) if JSON_FILE.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in workloads:
            recorded = Path(scratch) / f"{name}.npz"
            record(name, requests, recorded)
            for part in Part:
                rows = result.setdefault(name, {}).setdefault(part.value, {})
                for one in VARIANTS:
                    if part in one.parts and (not variant or any(word in one.name for word in variant)):
                        rows[one.name] = _measured(name, part, one.name, recorded)
                        console.print(f"{name} {part} {one.name}: {rows[one.name]}")
            JSON_FILE.parent.mkdir(parents=True, exist_ok=True)
            JSON_FILE.write_text(json.dumps(result, indent=1))
    text = table(result, workloads)
    TABLE_FILE.write_text(text + "\n")
    print(text)


def _measured(workload: str, part: Part, variant: str, recorded: Path) -> dict[str, Any]:
    """Both steps, each a process of its own, beginning with no cache."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for step in ("prepare", "load"):
            module = [sys.executable, "-m", "tests.benchmarks.variants.measure", step]
            try:
                done = subprocess.run(
                    ["taskset", "-c", str(SERVER_CORE), *module, workload, recorded, part.value, variant, directory],
                    env={**os.environ, **ONE_THREAD, **_no_caches(directory, step)},
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_S,
                )
            except subprocess.TimeoutExpired:
                return {"reason": f"{step} took more than {TIMEOUT_S} s"}
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
                return {"reason": f"{step}: {lines[-1][:LINE_MAX]}"}
            found |= json.loads(done.stdout.splitlines()[-1])
            if "reason" in found:
                break
    return found


def _no_caches(directory: str, step: str) -> dict[str, str]:
    """A worker finds the kernels that a rebuild compiled; what inductor compiles when it starts, it finds nowhere."""
    return {"NUMBA_CACHE_DIR": f"{directory}/numba", "TORCHINDUCTOR_CACHE_DIR": f"{directory}/inductor-{step}"}


def table(result: dict[str, Any], workloads: list[str]) -> str:
    """One table a part: costs from the first workload, quality from all."""
    costs_from = workloads[0]
    costs = " | ".join(f"µs at {size}" for size in BATCH_SIZES)
    quality = " | ".join(f"score ± max, {name} | overlap@20, {name}" for name in workloads)
    lines = []
    for part in Part:
        head = f"| {part.capitalize()} | {costs} | once, s | start, s | private MB | {quality} |"
        lines += [head, "|---|" + "---:|" * (head.count("|") - 2)]
        for one in VARIANTS:
            rows = [result.get(name, {}).get(part.value, {}).get(one.name) for name in workloads]
            if part in one.parts and rows[0] is not None:
                lines.append(_line(one.name, rows))
        lines.append("")
    lines.append(f"Costs are of {costs_from}.")
    return "\n".join(lines)


def _line(name: str, rows: list[dict[str, Any] | None]) -> str:
    first = rows[0] or {}
    if "reason" in first:
        return f"| {name} | not here: {first['reason']} |"
    costs = [f"{first[f'cpu_us_{size}']:,.0f}" for size in BATCH_SIZES]
    once = "" if first["prepare_s"] < 0.01 else f"{first['prepare_s']:.1f}"
    cells = [*costs, once, f"{first['load_s']:.2f}", f"{first['private_mb']:.0f}"]
    for row in rows:
        if row is None or "reason" in row:
            cells += ["", ""]
        else:
            cells += [f"{row['score_error_max']:.0e}", f"{row['overlap_at_20']:.4f}"]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(variants)
