"""`python -m tests.benchmarks.table`: var/bench/serving.json as the tables of docs/performance.md."""

from __future__ import annotations

import json
from typing import Any

from tests.benchmarks.workloads import BENCH_DIR

FACTS = ("recall_at_200", "overlap_at_20", "pss_mb_one", "pss_mb_per_further_worker", "ready_s_four", "rebuild_s")


def table(workload: str, measured: dict[str, Any]) -> str:
    """One workload: a line of facts, and a row for each path."""
    facts = ", ".join(f"{name} {measured[name]:.4g}" for name in FACTS if name in measured)
    lines = [
        f"**{workload}**: {facts}.",
        "",
        "| Path | requests/s | ± | CPU µs | ± | core share | p50 ms | p99 ms | repeats |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for path, cell in measured.items():
        if not isinstance(cell, dict) or "cpu_us" not in cell:
            continue
        lines.append(
            f"| `{path}` | {cell['rps']:,.0f} | {cell['rps_spread']:.0%} | {cell['cpu_us']:,.0f} "
            f"| {cell['cpu_us_spread']:.0%} | {cell['core_share']:.2f} | {cell['p50_ms']:.1f} | {cell['p99_ms']:.1f} "
            f"| {cell['repeats']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    result: dict[str, Any] = json.loads((BENCH_DIR / "serving.json").read_text())
    print("\n\n".join(table(workload, measured) for workload, measured in result.items()))
