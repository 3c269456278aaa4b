"""`make bench-fresh`: every figure of what changes while the server runs, into var/bench/freshness.json.

Each part is a command of its own whose last line is JSON; a finished part is kept, so that an interrupted run goes on.
`--part NAME` runs some, `--fresh` begins anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tests.benchmarks.workloads import BENCH_DIR, generations_root

RESULT_FILE = BENCH_DIR / "freshness.json"
PARTS_DIR = BENCH_DIR / "freshness"
_HERE = "tests.benchmarks.freshness"
_W1M = generations_root("W1M")

PARTS: dict[str, list[str]] = {
    "state_cost": [f"{_HERE}.state_cost", "--root", str(_W1M), "--users", str(_W1M.parent / "users.txt")],
    "stale": [f"{_HERE}.stale"],
    "ingest": [f"{_HERE}.ingest"],
    "catalogue": [f"{_HERE}.catalogue"],
    "swaps": [f"{_HERE}.swaps"],
    "kill": [f"{_HERE}.kill"],
    "power": [f"{_HERE}.power"],
    "filtered": ["tests.benchmarks.filtered"],
    "update": [f"{_HERE}.update"],
    "prequential": [f"{_HERE}.prequential"],
}
"""Name and command; the longest come last."""


def run_part(name: str, console: Console) -> dict[str, Any] | None:
    """Runs one part and keeps what it found; None when it failed, which is said and does not end the others."""
    console.rule(name)
    began_s = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", *PARTS[name]], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        console.print(line.rstrip(), highlight=False, markup=False)
        last = line if line.strip() else last
    if process.wait() != 0:
        console.print(f"{name} failed with exit status {process.returncode}")
        return None
    found: dict[str, Any] = json.loads(last)
    PARTS_DIR.mkdir(parents=True, exist_ok=True)
    (PARTS_DIR / f"{name}.json").write_text(json.dumps(found, indent=1))
    console.print(f"{name}: {time.monotonic() - began_s:.0f} s")
    return found


def merged(parts: list[Path]) -> dict[str, Any]:
    """All figures as one object; what two parts have in common is joined, a level deep."""
    together: dict[str, Any] = {}
    for path in parts:
        for key, value in json.loads(path.read_text()).items():
            if isinstance(value, dict):
                together.setdefault(key, {}).update(value)
            else:
                together[key] = value
    return together


def main(
    part: Annotated[list[str] | None, typer.Option(help="A part to run; may be repeated. Default: all.")] = None,
    fresh: Annotated[bool, typer.Option(help="Run parts again that are done.")] = False,
) -> None:
    """Runs what is missing, and writes what there is."""
    console = Console(soft_wrap=True)
    wanted = part or list(PARTS)
    if unknown := sorted(set(wanted) - set(PARTS)):
        raise typer.BadParameter(f"no part {unknown}; known: {', '.join(PARTS)}")
    failed = []
    for name in wanted:
        if (fresh or part or not (PARTS_DIR / f"{name}.json").exists()) and run_part(name, console) is None:
            failed.append(name)
        RESULT_FILE.write_text(json.dumps(merged(sorted(PARTS_DIR.glob("*.json"))), indent=1))
    console.print(RESULT_FILE.read_text(), highlight=False, markup=False)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    typer.run(main)
