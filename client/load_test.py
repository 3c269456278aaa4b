"""`python -m client.load_test TARGET --users FILE`: an open-loop load test of Recommend.

Sends at a given rate whatever the server does, measures from the intended start, and exits with 1 when less than 99 %
of the asked rate was achieved, with 2 when there was nothing to load.
"""

from __future__ import annotations

import asyncio
import gc
from array import array
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from client.load.arrivals import constant_arrivals, poisson_arrivals
from client.load.connection import connect, is_loopback, sender
from client.load.open_loop import OK, Tally, drive
from client.load.report import make_report, plot_latency, print_report
from client.load.shoppers import draw_zipf, read_user_ids, serialise_requests

DURATION_S_MAX = 3600.0
RATE_RPS_MAX = 20_000.0
CHANNEL_COUNT_MAX = 64
IN_FLIGHT_LIMIT = 20_000
REFRESH_S = 0.5
"""Drawing the progress costs a millisecond or two of the loop's time, so it is done seldom."""


class Arrivals(StrEnum):
    """How start times are spread."""

    CONSTANT = "constant"
    POISSON = "poisson"


def load_test(
    target: Annotated[str, typer.Argument(help="host:port of the server")],
    users: Annotated[Path, typer.Option(help="file with one user_id a line", exists=True, dir_okay=False)],
    rate: Annotated[float, typer.Option(help="requests a second", min=0.1, max=RATE_RPS_MAX)] = 100.0,
    duration: Annotated[float, typer.Option(help="measured seconds", min=0.1, max=DURATION_S_MAX)] = 10.0,
    warm_up: Annotated[float, typer.Option(help="seconds before them", min=0.0, max=DURATION_S_MAX)] = 2.0,
    arrivals: Annotated[Arrivals, typer.Option(help="spread of the start times")] = Arrivals.POISSON,
    channels: Annotated[int, typer.Option(help="connections", min=1, max=CHANNEL_COUNT_MAX)] = 4,
    placement: Annotated[str, typer.Option(help="placement asked for")] = "home",
    page_size: Annotated[int, typer.Option(help="items asked for; 0: the placement's own", min=0)] = 20,
    request_time: Annotated[
        datetime | None,
        typer.Option(help="as of when to ask; default now, another only with replay", formats=["%Y-%m-%dT%H:%M:%S%z"]),
    ] = None,
    zipf: Annotated[float, typer.Option(help="exponent of the draw of users; 0: uniform", min=0.0, max=5.0)] = 1.0,
    timeout_ms: Annotated[int, typer.Option(help="deadline of a request", min=1, max=60_000)] = 1000,
    in_flight_max: Annotated[int, typer.Option(help="unanswered requests", min=1, max=IN_FLIGHT_LIMIT)] = 1000,
    seed: Annotated[int, typer.Option(help="of arrivals and users")] = 1,
    json: Annotated[Path | None, typer.Option(help="write the numbers here", dir_okay=False)] = None,
    plot: Annotated[Path | None, typer.Option(help="write a PNG here", dir_okay=False)] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="load another machine than this")] = False,
) -> None:
    """Open-loop load test of Recommend."""
    if not allow_remote and not is_loopback(target):
        raise typer.BadParameter(f"{target} is not this machine; --allow-remote if you may load it")
    try:
        times = (
            constant_arrivals(rate, warm_up + duration)
            if arrivals is Arrivals.CONSTANT
            else poisson_arrivals(rate, warm_up + duration, seed)
        )
        user_ids = read_user_ids(users)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    draws = draw_zipf(len(user_ids), len(times), zipf, seed)
    requests = serialise_requests(user_ids, draws, placement, page_size, request_time)
    tally = Tally(warm_up_s=warm_up, end_s=warm_up + duration)
    console = Console(stderr=True)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(target, channels, requests, timeout_ms / 1000, times, tally, in_flight_max, console))
    except ConnectionError as error:
        console.print(f"[bold red]{error}[/bold red]")
        raise typer.Exit(2) from error
    report = make_report(tally, target=target, arrivals=arrivals.value, channel_count=channels)
    print_report(report, console)
    if json is not None:
        json.write_text(report.to_json(), encoding="utf-8")
    if plot is not None:
        plot_latency(tally, report, plot)
    if not report.kept_up:
        raise typer.Exit(1)


async def _run(
    target: str,
    channel_count: int,
    requests: list[bytes],
    timeout_s: float,
    times: array[float],
    tally: Tally,
    in_flight_max: int,
    console: Console,
) -> None:
    async with connect(target, channel_count) as channels:
        # What lives now lives to the end: the collector need not look at it again during the run.
        gc.collect()
        gc.freeze()
        try:
            display = asyncio.create_task(_show(tally, len(times), console))
            try:
                await drive(times, sender(channels, requests, timeout_s), tally, in_flight_max=in_flight_max)
            finally:
                display.cancel()
                await asyncio.gather(display, return_exceptions=True)
        finally:
            gc.unfreeze()


async def _show(tally: Tally, request_count: int, console: Console) -> None:
    if not console.is_terminal:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        bar = progress.add_task("load", total=request_count, state="")
        before = 0
        while True:
            await asyncio.sleep(REFRESH_S)
            finished = tally.finished_count
            failed = sum(count for status, count in tally.by_status.items() if status != OK)
            state = f"{(finished - before) / REFRESH_S:.0f}/s, {tally.in_flight} in flight, {failed} errors"
            progress.update(bar, completed=finished, state=state)
            progress.refresh()
            before = finished


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: about a tenth less CPU a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    typer.run(load_test)
