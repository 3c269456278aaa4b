"""What a load test found: numbers for JSON, a table for people, a plot of the percentiles."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.load.latency import PERCENTILES
from client.load.open_loop import OK, UNSENT, Tally

ACHIEVED_RATIO_MIN = 0.99
"""Below it the server, or this machine, did not keep up, and the latencies describe another load than the asked one."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A run's result over its measured window.

    `asked_rps` is what the schedule held (a Poisson one varies around the rate), `achieved_rps` what was answered OK in
    time, both a second of the window; `errors` counts everything but OK, the unsent included.
    """

    target: str
    arrivals: str
    duration_s: float
    warm_up_s: float
    channel_count: int
    scheduled: int
    answered: int
    errors: int
    unsent: int
    by_status: dict[str, int]
    asked_rps: float
    achieved_rps: float
    latency: dict[str, float]
    start_lag: dict[str, float]

    @property
    def achieved_ratio(self) -> float:
        """Achieved over asked rate."""
        return self.achieved_rps / self.asked_rps if self.asked_rps else 0.0

    @property
    def kept_up(self) -> bool:
        """Whether the achieved rate is close enough to the asked one for the latencies to mean something."""
        return self.achieved_ratio >= ACHIEVED_RATIO_MIN

    def to_json(self) -> str:
        """One flat object; latencies are `p50_ms` … `max_ms`, the load test's own lateness `start_lag_p50_ms` …"""
        fields = asdict(self)
        lag = {f"start_lag_{name}": value for name, value in fields.pop("start_lag").items()}
        latency = fields.pop("latency")
        return json.dumps({**fields, "achieved_ratio": self.achieved_ratio, **latency, **lag}, indent=2) + "\n"


def make_report(tally: Tally, *, target: str, arrivals: str, channel_count: int) -> LoadReport:
    """The report of a finished run."""
    window_s = tally.end_s - tally.warm_up_s
    scheduled = sum(tally.by_status.values())
    answered = tally.by_status.get(OK, 0)
    return LoadReport(
        target=target,
        arrivals=arrivals,
        duration_s=window_s,
        warm_up_s=tally.warm_up_s,
        channel_count=channel_count,
        scheduled=scheduled,
        answered=answered,
        errors=scheduled - answered,
        unsent=tally.by_status.get(UNSENT, 0),
        by_status=dict(sorted(tally.by_status.items())),
        asked_rps=scheduled / window_s,
        achieved_rps=tally.achieved_count / window_s,
        latency=tally.latency.summary(),
        start_lag=tally.start_lag.summary(),
    )


def print_report(report: LoadReport, console: Console) -> None:
    """The table, and a loud line when the asked rate was not reached."""
    table = Table(title=f"{report.target}: {report.arrivals} arrivals, {report.duration_s:g} s", title_justify="left")
    table.add_column("")
    for name in report.latency:
        table.add_column(name.removesuffix("_ms"), justify="right")
    table.add_row("latency, ms", *(f"{value:.2f}" for value in report.latency.values()))
    table.add_row("start lag, ms", *(f"{value:.2f}" for value in report.start_lag.values()), style="dim")
    console.print(table)
    statuses = ", ".join(f"{status} {count:,}" for status, count in report.by_status.items())
    console.print(f"{report.scheduled:,} requests: {statuses or 'none'}")
    rates = f"asked {report.asked_rps:.1f}/s, achieved {report.achieved_rps:.1f}/s ({report.achieved_ratio:.2%})"
    if report.kept_up:
        console.print(rates)
    else:
        console.print(
            f"[bold red]TOO SLOW: {rates}; below {ACHIEVED_RATIO_MIN:.0%} these latencies do not count[/bold red]"
        )


def plot_latency(tally: Tally, report: LoadReport, path: Path) -> None:
    """Writes a PNG of latency over percentile; the x axis stretches the tail, each nine as wide as the one before."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [(100 / (100 - percentile), ms) for percentile, ms in tally.latency.curve() if percentile < 100]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([x for x, _ in points], [ms for _, ms in points], drawstyle="steps-post")
    axes.set_xscale("log")
    axes.set_xticks([100 / (100 - p) for p in PERCENTILES], [f"{p:g} %" for p in PERCENTILES])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("percentile of requests")
    axes.set_ylabel("latency from the intended start, ms")
    axes.set_title(f"{report.achieved_rps:.0f} requests/s, {report.arrivals} arrivals, {report.duration_s:g} s")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
