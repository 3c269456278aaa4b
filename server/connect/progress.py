"""What a connector shows while it runs, and what it says in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from server.connect.pump import Pump

REFRESH_S = 0.25
LINE_INTERVAL_S = 10.0
"""Where no terminal looks on, a line is printed so often."""


class ProgressLine:
    """One live line on a terminal, a line every ten seconds elsewhere; called after each step of the pump."""

    def __init__(self, console: Console, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._name = name
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._interval_s = REFRESH_S if self._live else LINE_INTERVAL_S
        self._shown_at_s = clock()
        self._read_before = 0

    def __call__(self, pump: Pump) -> None:
        """Shows where the pump stands, if it is time to."""
        now_s = self._clock()
        if now_s - self._shown_at_s < self._interval_s:
            return
        tally = pump.tally
        rate = (tally.read - self._read_before) / (now_s - self._shown_at_s)
        self._shown_at_s, self._read_before = now_s, tally.read
        line = (
            f"{self._name}: {tally.read:,} read ({rate:,.0f}/s), {tally.written:,} written, "
            f"{tally.duplicates:,} duplicates, {tally.quarantined.total():,} quarantined, "
            f"{tally.committed:,} committed, {pump.delivery.in_flight} messages in flight"
        )
        if pump.delivery.trouble:
            line += f"; waiting: {pump.delivery.trouble}"
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


def print_summary(pump: Pump, console: Console, seconds: float) -> None:
    """The table at the end."""
    tally = pump.tally
    table = Table(show_header=False, box=None)
    table.add_column(justify="right")
    table.add_column()
    table.add_row(f"{tally.read:,}", f"read in {seconds:.1f} s")
    table.add_row(f"{tally.written:,}", "written")
    table.add_row(f"{tally.duplicates:,}", "duplicates, which the server had already")
    if tally.left_out:
        table.add_row(f"{tally.left_out:,}", "left out by the mapping's event types")
    for reason, count in sorted(tally.quarantined.items()):
        table.add_row(f"{count:,}", f"quarantined: {reason}")
    if waiting := tally.read - tally.committed:
        table.add_row(f"{waiting:,}", "not committed: they come again with the next start")
    console.print(table)
