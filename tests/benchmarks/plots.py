"""`python -m tests.benchmarks.plots [DIRECTORY]`: what was measured as pictures, for docs/performance.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

from tests.benchmarks.bars import Details
from tests.benchmarks.cells import write_results
from tests.benchmarks.paths import GROWTH_PATHS, LOADS, PATHS, SERVED
from tests.benchmarks.workloads import BENCH_DIR

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, OTHERS, ECHO = "#1f6f8b", "#b0b0b0", "#e0a030"
_LINES = ("native_unary", "grpcio_unary", "grpcio_stream", "mosec", "naive")


def draw(directory: Path) -> list[Path]:
    """Writes the pictures that there are figures for; returns their files."""
    details = write_results()
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for workload, measured in details.items():
        if any(path in measured for path in SERVED):
            drawn.append(_cpu(workload, measured, directory / f"{workload}-cpu.png"))
            drawn.append(_latency(workload, measured, directory / f"{workload}-latency.png"))
    if sum("engine" in measured for measured in details.values()) > 1:
        drawn.append(_growth(details, directory / "growth.png"))
    return drawn


def _cpu(workload: str, measured: dict[str, Any], file: Path) -> Path:
    """CPU of a request by path, with the spread of the repeats."""
    paths = [path for path in PATHS if path in measured][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(paths) + 1.2))
    values = [measured[path]["cpu_us"] for path in paths]
    errors = [measured[path]["cpu_us"] * measured[path]["cpu_us_spread"] / 2 for path in paths]
    axes.barh(paths, values, xerr=errors, color=[_colour(path) for path in paths], ecolor="#444444", capsize=2)
    for place, value in enumerate(values):
        axes.annotate(f" {value:,.0f}", (value + errors[place], place), va="center", fontsize=8)
    axes.set_xlabel("µs of CPU a request, server's whole process tree")
    axes.set_xscale("log")
    axes.set_title(f"{workload}: what a request costs")
    return _saved(figure, file)


def _latency(workload: str, measured: dict[str, Any], file: Path) -> Path:
    """p50 and p99 against the rate that was offered."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for path in (path for path in _LINES if path in measured and "p99_ms_at_50" in measured[path]):
        cell = measured[path]
        rates = [share * cell["rps"] for share in LOADS]
        for percentile, style in (("p50", "--"), ("p99", "-")):
            values = [cell[f"{percentile}_ms{'' if share == 0.7 else f'_at_{share * 100:.0f}'}"] for share in LOADS]
            axes.plot(rates, values, style, marker="o", markersize=3, label=f"{path} {percentile}")
    axes.set_xlabel("requests/s offered: 50, 70 and 90 % of each path's maximum")
    axes.set_ylabel("ms from the intended start")
    axes.set_yscale("log")
    axes.set_title(f"{workload}: latency of an open loop")
    axes.legend(fontsize=7, ncols=2)
    return _saved(figure, file)


def _growth(details: Details, file: Path) -> Path:
    """CPU of a request by the number of items."""
    figure, axes = plt.subplots(figsize=(6, 3.5))
    shops = sorted((found for found in details.values() if "item_count" in found), key=lambda f: int(f["item_count"]))
    for path in GROWTH_PATHS:
        points = [(shop["item_count"], shop[path]["cpu_us"]) for shop in shops if path in shop]
        axes.plot(*zip(*points, strict=True), marker="o", label=path)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("items")
    axes.set_ylabel("µs of CPU a request")
    axes.legend()
    return _saved(figure, file)


def _colour(path: str) -> str:
    if path.startswith("echo_"):
        return ECHO
    return OTHERS if path in ("naive", "mosec", "plain") else OURS


def _saved(figure: Any, file: Path) -> Path:
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)
    return file


if __name__ == "__main__":
    for written in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else BENCH_DIR):
        print(written)
