"""`python -m towers update CONFIG --store URL`: the log's new events, learned, judged, published and made current.

Exit status: 0 when a generation was published or nothing is new, 3 when what came of it ranks worse than the current
generation and was refused, 1 when something is wrong (one line on stderr says what). With `--watch` it goes on until
SIGTERM or SIGINT, which end it with 0 at any moment: whatever it writes is whole or not there.
"""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from towers.schema import DataError, ShopConfig, load_dataset, read_shop_config

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from index.generation import Generation
    from index.generation.positions import LivePositions
    from towers.commands.store_log import StoreLog
    from towers.schema import Dataset
    from towers.updating.contest import Verdict
    from towers.updating.joining import Joined
    from towers.updating.recipe import Recipe

STATUS_REFUSED = 3
PURGE_MS_MAX = 60_000
"""How long a purge may take from its moment to its entry in the list; what is younger may be missing there."""


class UpdateError(DataError, RuntimeError):
    """An update cannot be done now; the message says why."""


def update(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file.")],
    store: Annotated[str, typer.Option(help="unix:///path/valkey.sock or valkey://host:port/db.")],
    until: Annotated[
        datetime | None, typer.Option(help="Read the log no further than this moment (UTC where no zone is given).")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until SIGTERM.")] = False,
    every: Annotated[float, typer.Option(help="Seconds from the start of one update to that of the next.")] = 600.0,
    margin: Annotated[float | None, typer.Option(help="NDCG@20 below the current one that is refused.")] = None,
    questions_min: Annotated[int | None, typer.Option(help="New user-days that make learning worth while.")] = None,
    seconds_max: Annotated[float | None, typer.Option(help="Learning stops there.")] = None,
    threads: Annotated[int, typer.Option(help="torch threads; 0 means one for each core.")] = 0,
    key_file: Annotated[Path | None, typer.Option(help="The signature key of the generations.")] = None,
) -> None:
    """Learn the log's new events and publish what ranks no worse than the current generation."""
    import torch

    from index.commands.location import errors_in_one_line, find_key
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


def _nothing(stage: str) -> None:
    del stage


@dataclass
class Update:
    """One shop's updates.

    Attributes:
        shop, store_url, recipe: what is updated, from where, and how.
        key: the generations' signature key. say: prints a line. until_ms: where the log is cut at the latest.
        on_stage: called with the name of each stage that begins; tests end the process there.
    """

    shop: ShopConfig
    store_url: str
    recipe: Recipe
    key: bytes | None
    say: Callable[[str], None]
    until_ms: int | None = None
    on_stage: Callable[[str], None] = _nothing
    stage_s: dict[str, float] = field(default_factory=dict)

    def once(self) -> str:
        """One update: `nothing new`, `refused`, `new data` or `learned`.

        Raises StoreError, EntryInvalid, DataError, GenerationError, GenerationUnfit, GoldenMismatch, IndexBuildError,
        SearchError, OSError; nothing that was current has changed then.
        """
        from index.generation import current_id, open_generation
        from towers.commands.store_log import StoreLog

        self.stage_s = {}
        started = time.monotonic()
        with _alone(self.shop.shop.work_dir / "updates"):
            root = self.shop.generations_dir
            generation_id = current_id(root)
            if generation_id is None:
                raise UpdateError(f"{root} has no current generation; run python -m index rebuild CONFIG")
            store = StoreLog(self.store_url)
            try:
                with self._stage("open"):
                    generation = open_generation(root, generation_id, self.key)
                    positions = _positions(generation)
                outcome = self._from(generation, positions, store)
            finally:
                store.close()
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.stage_s.items())
        self.say(f"{outcome}: {time.monotonic() - started:.1f} s ({stages})")
        return outcome

    def _from(self, generation: Generation, positions: LivePositions, store: StoreLog) -> str:
        from index.generation.positions import LivePositions
        from towers.commands.train import exact_search
        from towers.model import MODEL_FILE, RANKER_FILE, TOWERS_FILE, model_from_files
        from towers.updating.contest import hold_contest

        with self._stage("read"):
            cut_ms, purged, log = self._read(store, positions)
        with self._stage("join"):
            joined = self._join(generation, positions, store, log, purged)
        newly_purged = any(purged_ms > positions.purges_until_ms for purged_ms in purged.values())
        self._report(joined)
        if joined.new == 0 and not newly_purged:
            return "nothing new"
        model = model_from_files({name: generation.bytes(name) for name in (MODEL_FILE, TOWERS_FILE, RANKER_FILE)})
        as_of_s = _as_of_s(generation)
        with self._stage("learn and judge"):
            verdict = hold_contest(model, joined.dataset, as_of_s, exact_search, self.recipe, self.say)
        self.say(verdict.reason)
        if verdict.outcome == "refused":
            return "refused"
        purges_until_ms = max(cut_ms - PURGE_MS_MAX, positions.purges_until_ms)
        moved = LivePositions(
            files_until_s=positions.files_until_s,
            log_until_ms=cut_ms,
            # All that the live catalogue still says is said to this generation again: compaction forgets what it built
            # in, and that stands in the catalogue that this one was made from.
            catalogue_position="0-0",
            purges_until_ms=purges_until_ms,
        )
        with self._stage("publish"):
            self._publish(generation, joined.dataset, verdict, moved, as_of_s)
        return verdict.outcome

    def _read(self, store: StoreLog, positions: LivePositions) -> tuple[int, dict[str, float], pl.DataFrame]:
        """The cut, who was purged, and every event that ever was read, the new ones kept on disk."""
        from towers.updating.archive import EventArchive
        from towers.updating.joining import without_purged

        archive = EventArchive(self.shop.shop.work_dir / "updates")
        after_ms = archive.until_ms
        if after_ms < positions.log_until_ms:
            self.say(f"updates/ ends at {after_ms}, the generation at {positions.log_until_ms}: reading the log again")
        cut_ms = store.cut_ms() if self.until_ms is None else min(store.cut_ms(), self.until_ms)
        cut_ms = max(cut_ms, after_ms, positions.log_until_ms)
        purged = store.purged()  # after the cut: whoever was purged up to it is here
        if cut_ms > after_ms:
            fresh = without_purged(store.events(after_ms, cut_ms), purged)
            if fresh.height:
                archive.append(fresh, after_ms, cut_ms)
        log = archive.read()
        kept = without_purged(log, purged)
        if kept.height < log.height:
            archive.rewrite(kept)
        return cut_ms, purged, kept

    def _join(
        self,
        generation: Generation,
        positions: LivePositions,
        store: StoreLog,
        log: pl.DataFrame,
        purged: dict[str, float],
    ) -> Joined:
        import polars as pl

        from server.fitness import CATALOGUE_FILE
        from towers.updating.joining import LiveFacts, join

        return join(
            load_dataset(self.shop.dataset_dir),
            pl.read_parquet(generation.path(CATALOGUE_FILE), glob=False),
            log,
            LiveFacts(store.items, purged),
            files_until_s=positions.files_until_s,
            known_until_ms=positions.log_until_ms,
        )

    def _report(self, joined: Joined) -> None:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in joined.left_out.items()) or "none"
        self.say(
            f"log: {joined.taken:,} events, {joined.new:,} of them new to the generation, {joined.users:,} new users, "
            f"{joined.items:,} new items; left out: {left_out}"
        )
        if joined.base_left_out:
            told = ", ".join(f"{count:,} {reason}" for reason, count in joined.base_left_out.items())
            self.say(f"files: left out: {told}")

    def _publish(
        self, current: Generation, dataset: Dataset, verdict: Verdict, positions: LivePositions, as_of_s: int
    ) -> None:
        import numpy as np

        from index.commands.rebuild import publish
        from index.generation import PointerMoved, set_current

        until_s = max(as_of_s, dataset.meta.last_time_s + 1)
        stay = np.zeros(dataset.item_count, np.bool_)
        retrievable = _retrievable(current)
        stay[: len(retrievable)] = retrievable  # the generation's items stand first
        published = publish(self.shop, dataset, verdict.model, self.key, self.say, positions, until_s, stay)
        self.on_stage("activate")
        root = self.shop.generations_dir
        try:
            set_current(root, published.generation_id, instead_of=current.id)
        except PointerMoved as error:
            raise UpdateError(
                f"{published.generation_id} is published, not activated: {error}; the next update begins anew"
            ) from error
        self.say(f"generation {published.generation_id} (current) in {root}")

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.on_stage(name)
        started = time.monotonic()
        yield
        self.stage_s[name] = time.monotonic() - started


def _positions(generation: Generation) -> LivePositions:
    """The generation's places in the store's streams; one made before there was a store has its files' end."""
    from index.generation.positions import POSITIONS_FILE, LivePositions

    if POSITIONS_FILE not in generation.names:
        return LivePositions(files_until_s=_as_of_s(generation))
    return LivePositions.model_validate_json(generation.bytes(POSITIONS_FILE))


def _retrievable(generation: Generation) -> NDArray[np.bool_]:
    """(items,) what may be recommended, in the order of the generation's catalogue; spare rows are left out.

    Also an item that hardly anybody bought, when it came in live and was compacted since: it stays.
    """
    import polars as pl
    from safetensors import safe_open

    from server.fitness import CATALOGUE_FILE
    from towers.snapshot import ITEMS_FILE

    count = pl.scan_parquet(generation.path(CATALOGUE_FILE), glob=False).select(pl.len()).collect().item()
    with safe_open(generation.path(ITEMS_FILE), "np") as file:
        found: NDArray[np.bool_] = file.get_tensor("retrievable")[:count]
    return found


def _as_of_s(generation: Generation) -> int:
    as_of_s: Any = generation.manifest.metadata["as_of_s"]
    return int(as_of_s)


def _aware(moment: datetime) -> datetime:
    from datetime import UTC

    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One update of a shop at a time."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UpdateError(f"another update of {directory.parent} is at work") from error
        yield


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
