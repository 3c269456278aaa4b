"""The bars: the figures that were asked for, each a ratio within one run where it can be, and whether they are met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Details = dict[str, dict[str, Any]]
"""serving_details.json: by workload, its facts and its paths."""
RECALL_EQUAL = 0.01
"""Shops of different sizes are compared at a recall that differs by no more."""
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Bar:
    """One figure, from the details; it raises KeyError where something is not measured."""

    figure: str
    bar: str
    measured: Callable[[Details], float]
    is_met: Callable[[float], bool]
    form: str = "{:.2f}"


def at_most(figure: str, limit: float, measured: Callable[[Details], float], form: str = "{:.2f}") -> Bar:
    """A figure that must not be larger."""
    return Bar(figure, f"≤ {limit:g}", measured, lambda value: value <= limit * _ROUNDING, form)


def at_least(figure: str, limit: float, measured: Callable[[Details], float], form: str = "{:.2f}") -> Bar:
    """A figure that must not be smaller."""
    return Bar(figure, f"≥ {limit:g}", measured, lambda value: value * _ROUNDING >= limit, form)


def _cpu(details: Details, path: str, workload: str = "W1M") -> float:
    return float(details[workload][path]["cpu_us"])


def _rps(details: Details, path: str, workload: str = "W1M") -> float:
    return float(details[workload][path]["rps"])


def _fact(name: str, workload: str = "W1M") -> Callable[[Details], float]:
    return lambda details: float(details[workload][name])


def _overhead(path: str) -> Callable[[Details], float]:
    return lambda details: (_cpu(details, path) - _cpu(details, "engine")) / _cpu(details, f"echo_{path}")


def _faster(path: str, than: str) -> Callable[[Details], float]:
    return lambda details: _rps(details, path) / _rps(details, than)


def _growth(path: str) -> Callable[[Details], float]:
    def measured(details: Details) -> float:
        apart = abs(details["W1M"]["recall_at_200"] - details["W100k"]["recall_at_200"])
        if apart > RECALL_EQUAL * _ROUNDING:
            raise KeyError(f"recall differs by {apart:.3f}")
        return _cpu(details, path, "W1M") / _cpu(details, path, "W100k")

    return measured


BARS = (
    at_most("native unary minus engine, in native echoes", 1.3, _overhead("native_unary")),
    at_most("grpcio stream minus engine, in its own echoes", 1.3, _overhead("grpcio_stream")),
    at_most("engine / plain, CPU a request", 0.70, lambda d: _cpu(d, "engine") / _cpu(d, "plain")),
    at_least("native unary / naive, requests/s", 4.5, _faster("native_unary", "naive")),
    at_least("native unary / mosec, requests/s", 2, _faster("native_unary", "mosec")),
    at_least("grpcio unary / naive, requests/s", 2.5, _faster("grpcio_unary", "naive")),
    at_least("native unary, requests/s on one core", 1_500, lambda d: _rps(d, "native_unary"), "{:,.0f}"),
    at_least("recall@200", 0.90, _fact("recall_at_200"), "{:.3f}"),
    at_most("native unary, p99 at 70 % load, ms", 15, lambda d: float(d["W1M"]["native_unary"]["p99_ms"]), "{:.1f}"),
    at_least(
        "W0 / W1M, native unary, requests/s", 1, lambda d: _rps(d, "native_unary", "W0") / _rps(d, "native_unary")
    ),
    at_most("W1M / W100k at equal recall, engine's CPU a request", 2, _growth("engine")),
    at_most("W1M / W100k at equal recall, native unary's CPU a request", 2, _growth("native_unary")),
    at_most("PSS of a further worker, MB", 100, _fact("pss_mb_per_further_worker"), "{:.0f}"),
    at_most("four workers' first good answers, s", 5, _fact("ready_s_four"), "{:.1f}"),
    at_most("rebuild of 1,000,000 items, s", 180, _fact("rebuild_s"), "{:.0f}"),
    at_least("overlap of the top 20 with plain", 0.99, _fact("overlap_at_20"), "{:.3f}"),
)


def bars_table(details: Details) -> str:
    """Figure, bar, measured, met or not; on W1M unless the figure says otherwise."""
    lines = ["| Figure (W1M) | Bar | Measured | |", "|---|---:|---:|---|"]
    for bar in BARS:
        try:
            value = bar.measured(details)
        except KeyError as missing:
            lines.append(f"| {bar.figure} | {bar.bar} | | not measured: {missing.args[0]} |")
            continue
        lines.append(
            f"| {bar.figure} | {bar.bar} | {bar.form.format(value)} | {'met' if bar.is_met(value) else '**not met**'} |"
        )
    return "\n".join(lines)
