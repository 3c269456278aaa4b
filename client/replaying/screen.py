"""A replay on the screen: one live line while it runs, a table at the end, the same figures as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from client.replaying.player import Progress

REFRESH_S = 0.25
LINE_INTERVAL_S = 10.0
"""Where no terminal looks on, a line is printed so often."""


class ReplayLine:
    """The live line."""

    def __init__(self, console: Console, event_count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._event_count = event_count
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._interval_s = REFRESH_S if self._live else LINE_INTERVAL_S
        self._shown_at_s = clock()
        self._before = 0

    def __call__(self, progress: Progress, trouble: str) -> None:
        """Shows where the replay stands, if it is time to."""
        now_s = self._clock()
        if now_s - self._shown_at_s < self._interval_s:
            return
        rate = (progress.sent_events - self._before) / (now_s - self._shown_at_s)
        self._shown_at_s, self._before = now_s, progress.sent_events
        line = (
            f"{datetime.fromtimestamp(progress.simulated_s, UTC):%Y-%m-%d %H:%M} · {rate:,.0f} events/s · "
            f"{progress.acknowledged_events:,} of {self._event_count:,} acknowledged · lag {progress.lag_s:.1f} s · "
            f"{progress.refused.total():,} errors"
        )
        if trouble:
            line += f" · waiting: {trouble}"
        if self._live:
            self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
        else:
            self._console.print(line, markup=False, highlight=False)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()


def figures(progress: Progress, seconds: float) -> dict[str, Any]:
    """What came out, for JSON; `acknowledgement` is in milliseconds, from when a message was due."""
    return {
        "sent_events": progress.sent_events,
        "acknowledged_events": progress.acknowledged_events,
        "written": progress.written,
        "duplicates": progress.duplicates,
        "refused": dict(progress.refused),
        "seconds": seconds,
        "events_per_s": progress.acknowledged_events / seconds if seconds else 0.0,
        "lag_s_max": progress.lag_s_max,
        "acknowledgement": progress.latency.summary(),
    }


def print_summary(progress: Progress, seconds: float, console: Console) -> None:
    """The table at the end."""
    table = Table(title=f"{progress.acknowledged_events:,} events in {seconds:.1f} s", title_justify="left")
    summary = progress.latency.summary()
    table.add_column("")
    for name in summary:
        table.add_column(name.removesuffix("_ms"), justify="right")
    table.add_row("acknowledgement, ms", *(f"{value:.2f}" for value in summary.values()))
    console.print(table)
    console.print(
        f"{progress.written:,} written, {progress.duplicates:,} duplicates, {progress.refused.total():,} refused, "
        f"{progress.sent_events - progress.acknowledged_events:,} without an answer; "
        f"behind schedule by up to {progress.lag_s_max:.2f} s",
        highlight=False,
    )
    for reason, count in sorted(progress.refused.items()):
        console.print(Text(f"{count:,} refused: {reason}, such as: {progress.refusal}", style="red"))


def figures_text(progress: Progress, seconds: float) -> str:
    """`figures` as a file's content."""
    return json.dumps(figures(progress, seconds), indent=2) + "\n"
