"""`python -m towers update CONFIG --store URL`: the log's new events, learned, judged, published and made current.

Exit status: 0 when a generation was published or nothing is new, 3 when what came of it ranks worse than the current
generation and was refused, 1 when something is wrong (one line on stderr says what). With `--watch` it goes on until
SIGTERM or SIGINT, which end it with 0 at any moment: whatever it writes is whole or not there.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from towers.schema import DataError, read_shop_config

if TYPE_CHECKING:
    from towers.commands.one_update import Update

STATUS_REFUSED = 3


def update(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file.")],
    store: Annotated[str, typer.Option(help="unix:///path/valkey.sock or valkey://host:port/db.")],
    until: Annotated[
        datetime | None, typer.Option(help="Read the log no further than this moment (UTC where no zone is given).")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until SIGTERM.")] = False,
    every: Annotated[
        float, typer.Option(min=0.0, help="Seconds from the start of one update to that of the next.")
    ] = 600.0,
    margin: Annotated[
        float | None, typer.Option(min=0.0, help="NDCG@20 below the current one that is refused.")
    ] = None,
    questions_min: Annotated[
        int | None, typer.Option(min=2, help="New user-days that make learning worth while.")
    ] = None,
    seconds_max: Annotated[float | None, typer.Option(min=0.001, help="Learning stops there.")] = None,
    threads: Annotated[int, typer.Option(help="torch threads; 0 means one for each core.")] = 0,
    key_file: Annotated[Path | None, typer.Option(help="The signature key of the generations.")] = None,
) -> None:
    """Learn the log's new events and publish what ranks no worse than the current generation."""
    import torch

    from index.commands.location import errors_in_one_line, find_key
    from towers.commands.one_update import Update
    from towers.updating.recipe import Recipe

    if threads:
        torch.set_num_threads(threads)
    given = {"margin": margin, "questions_min": questions_min, "seconds_max": seconds_max}
    recipe = Recipe(**{name: value for name, value in given.items() if value is not None})
    console = Console(soft_wrap=True)
    until_ms = None if until is None else int(_aware(until).timestamp() * 1_000)
    with errors_in_one_line():
        shop = read_shop_config(config)
        work = Update(shop, store, recipe, find_key(key_file), console.print, until_ms)
        if watch:
            _watch(work, every)
            return
        try:
            outcome = work.once()
        except Exception as error:
            _known_or_raise(error)
    if outcome == "refused":
        raise typer.Exit(STATUS_REFUSED)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class _Ended(BaseException):
    """SIGTERM or SIGINT came."""


def _watch(work: Update, every_s: float) -> None:
    """Update after update; what goes wrong in one is said, and the next begins on time."""

    def end(number: int, frame: object) -> NoReturn:
        del number, frame
        raise _Ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    pause = threading.Event()
    try:
        while True:
            started = time.monotonic()
            try:
                work.once()
            except Exception as error:
                print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            pause.wait(max(every_s - (time.monotonic() - started), 0.0))
    except _Ended:
        work.say("ended")


def _known_or_raise(error: Exception) -> NoReturn:
    """One line for what can go wrong outside of this code; anything else is a fault of it and keeps its trace."""
    from index.build import IndexBuildError
    from index.commands.location import fail
    from index.generation import GenerationError
    from index.searcher import SearchError
    from server.events.log_entry import EntryInvalid
    from server.fitness import GenerationUnfit
    from server.golden import GoldenMismatch
    from server.store.errors import StoreError

    known = (StoreError, EntryInvalid, DataError, GenerationUnfit, GoldenMismatch, IndexBuildError, SearchError)
    if isinstance(error, (*known, GenerationError, OSError, FloatingPointError)):
        fail(str(error))
    raise error
