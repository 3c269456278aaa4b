"""`python -m tests.benchmarks.table`: what was measured as the tables of docs/performance.md, the bars first."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.bars import Details, bars_table
from tests.benchmarks.cells import WORKLOAD_FIGURES, write_results
from tests.benchmarks.paths import GROWTH_PATHS, PATHS


def tables(details: Details) -> str:
    """The bars, a table of each workload, and growth."""
    parts = [bars_table(details), *(table(workload, measured) for workload, measured in details.items())]
    return "\n\n".join([*parts, growth_table(details)])


def table(workload: str, measured: dict[str, Any]) -> str:
    """One workload: a line of facts, and a row for each path."""
    facts = ", ".join(f"{name} {measured[name]:.4g}" for name in WORKLOAD_FIGURES if name in measured)
    lines = [
        f"**{workload}**: {facts}.",
        "",
        "| Path | requests/s | ± | CPU µs | ± | core | load | batch | p50 · p99 ms at 50 % | at 70 % | at 90 % "
        "| ready s | PSS MB | repeats |",
        "|---|" + "---:|" * 13,
    ]
    lines += [_row(path, measured[path]) for path in PATHS if path in measured]
    return "\n".join(lines)


def _row(path: str, cell: dict[str, Any]) -> str:
    def number(name: str, form: str) -> str:
        return form.format(cell[name]) if name in cell else ""

    def latencies(suffix: str) -> str:
        if f"p50_ms{suffix}" not in cell:
            return ""
        return f"{cell[f'p50_ms{suffix}']:.1f} · {cell[f'p99_ms{suffix}']:.1f}"

    cells = [
        f"`{path}`",
        number("rps", "{:,.0f}"),
        number("rps_spread", "{:.0%}"),
        number("cpu_us", "{:,.0f}"),
        number("cpu_us_spread", "{:.0%}"),
        number("core_share", "{:.2f}"),
        number("load_share", "{:.2f}"),
        number("batch_size", "{:.1f}"),
        latencies("_at_50"),
        latencies(""),
        latencies("_at_90"),
        number("ready_s", "{:.1f}"),
        number("pss_mb", "{:,.0f}"),
        number("repeats", "{:.0f}"),
    ]
    return f"| {' | '.join(cells)} |"


def growth_table(details: Details) -> str:
    """CPU a request by the size of the shop."""
    lines = [
        "| Items | recall@200 | " + " | ".join(f"`{path}`, CPU µs" for path in GROWTH_PATHS) + " |",
        "|---:|" + "---:|" * (1 + len(GROWTH_PATHS)),
    ]
    for measured in sorted(details.values(), key=lambda found: int(found.get("item_count", 0))):
        if "item_count" in measured:
            figures = [f"{measured[path]['cpu_us']:,.0f}" if path in measured else "" for path in GROWTH_PATHS]
            lines.append(f"| {measured['item_count']:,} | {measured['recall_at_200']:.3f} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables(write_results()))
