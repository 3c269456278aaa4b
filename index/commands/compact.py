"""`python -m index compact`: what changed of the catalogue while a generation served, as a new generation.

It is made of the current generation's own files and the store alone: the same model, the same histories and users; new
items get rows of their own and are in the index, what was deleted or is out of stock is not, spare rows are free again.
It needs no shop's files, and holds the event log where the generation before it did.

It can be killed at any moment: what is not published is not there, and what is published and not activated harms
nobody. Documents leave the store only when every generation on disk holds them, so that none that is rolled back to
forgets an item.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from index.commands.location import (
    ConfigOption,
    KeyOption,
    RootOption,
    errors_in_one_line,
    fail,
    find_key,
    find_root,
)
from index.generation import PointerMoved, current_id, open_generation, set_current
from index.searcher import SearchError

if TYPE_CHECKING:
    from server.store.address import StoreAddress

LOCK_NAME = ".compacting"
"""Held in the generations' directory while one is compacted; a killed command leaves it free."""
STORE_VARIABLE = "TWINRANK_COMPACT_STORE"
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar=STORE_VARIABLE,
        help="The store's URL: unix:///path or valkey://[:password@]host:port/db. Of the embedded store: its socket.",
    ),
]


def compact(
    root: RootOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    activate: Annotated[bool, typer.Option(help="Point CURRENT at the new generation.")] = True,
    key_file: KeyOption = None,
) -> None:
    """Build what changed of the catalogue into a new generation of the same model, and publish it."""
    from server.fitness import GenerationUnfit
    from server.golden import GoldenMismatch
    from server.store.address import StoreAddress
    from server.store.errors import StoreError

    if store is None:
        fail(f"say where the store is: --store URL, or {STORE_VARIABLE}")
    console = Console(soft_wrap=True)
    with errors_in_one_line():
        try:
            done = compact_generations(
                find_root(root, config), StoreAddress(store), find_key(key_file), console.print, activate=activate
            )
        except (StoreError, GenerationUnfit, GoldenMismatch, SearchError) as error:
            fail(str(error))
    if done is None:
        console.print("nothing has changed since the current generation was built")
    else:
        console.print(f"generation {done} ({'current' if activate else 'published, not activated'})")


def compact_generations(
    root: Path, store: StoreAddress, key: bytes | None, say: Callable[[str], None], *, activate: bool = True
) -> str | None:
    """The id of the compacted generation; None where nothing has changed.

    Raises GenerationError, GenerationUnfit, GoldenMismatch, SearchError, StoreError, OSError.
    """
    from index.commands.compacting.build import bought_enough, write_compacted
    from index.commands.compacting.changes import forget_what_all_hold, read_changes
    from server.model import open_serving_model
    from server.store.connection import connect
    from server.threads import compute_on_one_thread

    began_s = time.monotonic()
    compute_on_one_thread()  # beside a server that uses the other cores
    client = connect(store, timeout_s=30.0)
    with _alone(root), ExitStack() as stack:
        stack.callback(client.connection_pool.disconnect)
        generation_id = current_id(root)
        if generation_id is None:
            fail(f"{root}: no generation is current")
        generation = open_generation(root, generation_id, key)
        serving = open_serving_model(generation)
        changes = read_changes(client, serving.live)
        if not changes.documents:
            return None
        say(f"generation {generation_id}: {len(changes.documents):,} items changed")
        compacted = write_compacted(root, key, generation, serving, changes, say)
        if activate:
            try:
                set_current(root, compacted, instead_of=generation_id)
            except PointerMoved as error:  # a newer model, which follows the same documents by itself
                fail(f"{compacted} is published and not activated: {error}")
            dropped = forget_what_all_hold(client, root, bought_enough(serving))
            say(f"{dropped:,} documents left the store, which every generation holds")
    say(f"compacted in {time.monotonic() - began_s:.1f} s")
    return compacted


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One compaction at a time; ends the command when there is one."""
    with (root / LOCK_NAME).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"{root}: another compaction is under way")
        yield
