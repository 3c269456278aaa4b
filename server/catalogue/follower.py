"""A worker's ear for the catalogue: a thread that follows `tr:changes` and brings what it says into the live tables.

A generation is first caught up with: all documents of `tr:items` that it does not hold are applied before it serves, so
nothing that was deleted comes back with a swap or a restart. Then its tables follow the stream, beside those of
every other generation that is still in memory.

While the store is down the last known tables go on. When it is back everything is read from `tr:items` again: changes
that the stream no longer holds are in there. What is known stays in this process's memory, too, so that a generation
that is loaded while the store is down is caught up with what was known last.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import structlog
import valkey
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.catalogue.document import (
    ITEM_KIND,
    PURGE_KIND,
    DocumentInvalid,
    ItemDocument,
    Position,
    looks_hidden,
    position_in,
    position_of,
    position_text,
)
from server.catalogue.live_items import LiveItems
from server.state.keys import CHANGES_KEY, ITEMS_KEY
from server.store.address import StoreAddress
from server.store.connection import connect
from server.store.errors import StoreError, translated
from server.threads import compute_on_one_thread

READ_ENTRIES_MAX = 1_000
"""Entries of the stream taken at once, and documents embedded at once."""
BLOCK_MS = 200
"""How long a read waits for a change: so late a new generation may join, and `stop` be heard."""
TIMEOUT_S = 1.0
"""A store that answers later than this is down."""
DOWN_PATIENCE_S, LOADING_PATIENCE_S = 3.0, 60.0
"""How long a generation waits to be caught up with: for a store that is down, and for one that reads its file, whose
documents are there in a moment and without which deleted items would be back."""
RETRY_S_MIN, RETRY_S_MAX = 0.05, 1.0
"""Pauses between attempts to reach a store that is down; each is twice as long as the one before."""
READ_ANEW_AFTER_S = 60.0
"""A thread that did not read for so long may have missed what the stream no longer holds (a compaction trims it)."""
_AT = b'"at":"'

_LOGGER = structlog.stdlib.get_logger("twinrank.catalogue")

PurgeHeard = Callable[[str, bytes, str], None]
"""Told of each purge in the stream: whom, its JSON document, its position. On the follower's thread."""


class CatalogueFollower(Collector):
    """One worker's follower. `catch_up` may be called on any thread; everything else it does on its own."""

    def __init__(
        self,
        address: StoreAddress,
        *,
        on_purge: PurgeHeard | None = None,
        on_gap: Callable[[], None] | None = None,
    ) -> None:
        """`on_gap`: called when purges may have gone by unheard, at the start and after the store was down."""
        self._client = connect(address, timeout_s=TIMEOUT_S + BLOCK_MS / 1000)
        self._on_purge, self._on_gap = on_purge, on_gap
        self._lives: weakref.WeakSet[LiveItems] = weakref.WeakSet()
        self._known: dict[str, bytes] = {}
        self._position: Position | None = None  # of the whole process; None: everything has to be read anew
        self._changing = threading.Lock()  # of `_lives`, `_known` and what is offered
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalogue", daemon=True)
        self.connected = False
        """Whether the store answered last."""

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread within `BLOCK_MS`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_S)
        self._client.connection_pool.disconnect()

    def catch_up(self, live: LiveItems, patience_s: float = DOWN_PATIENCE_S) -> bool:
        """Brings a generation's tables to the present, and follows with them from then on.

        Whether the store answered within the patience; if not, what was known last has been applied.
        """
        began_s = time.monotonic()
        caught_up = False
        while not caught_up:
            try:
                self._read_all([live])
                caught_up = True
            except StoreError as error:
                loading = isinstance(error.__cause__, valkey.BusyLoadingError)
                waited_s = time.monotonic() - began_s
                over = waited_s >= (max(LOADING_PATIENCE_S, patience_s) if loading else patience_s)
                if over or self._stopping.wait(RETRY_S_MIN):
                    _LOGGER.warning("the store is down: the catalogue is as it was known last", reason=str(error))
                    break
        with self._changing:
            self._offer([live], [(item_id, data) for item_id, data in self._known.items()])
            self._lives.add(live)
            oldest = min(each.built_in for each in self._lives)
            self._known = {
                item_id: data
                for item_id, data in self._known.items()
                if position_in(data) > oldest or looks_hidden(data)
            }
        live.settle()
        return caught_up

    def describe(self) -> list[Metric]:
        """Nothing: they are asked for when they are wanted."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What a scrape reads. Called on any thread."""
        lives = list(self._lives)
        following = GaugeMetricFamily("twinrank_catalogue_following", "1 while changes of items are heard.")
        following.add_metric([], int(self.connected))
        yield following
        if not lives:
            return
        spare = min(live.counts.spare_left for live in lives)
        deltas = [live.delta for live in lives if live.delta is not None]
        beside = max((len(delta.rows) + delta.hidden_count for delta in deltas), default=0)
        yield GaugeMetricFamily("twinrank_catalogue_spare_rows", "Rows left for new items.", spare)
        yield GaugeMetricFamily("twinrank_catalogue_delta_items", "Items that the index has not, or not so.", beside)

    def _run(self) -> None:
        compute_on_one_thread()
        pause_s, read_at_s = RETRY_S_MIN, time.monotonic()
        while not self._stopping.is_set():
            try:
                if self._position is None:
                    if self._on_gap is not None:
                        self._on_gap()
                    self._position = self._read_all(list(self._lives))
                self._read_changes(self._position)
                if time.monotonic() - read_at_s > READ_ANEW_AFTER_S:
                    self._position = None
                read_at_s = time.monotonic()
                self.connected, pause_s = True, RETRY_S_MIN
            except StoreError as error:
                if self.connected or self._position is not None:
                    _LOGGER.warning("the store is down: the catalogue stays as it is", reason=str(error))
                self.connected, self._position = False, None
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, RETRY_S_MAX)
            except Exception:  # a thread that ended would freeze the catalogue in silence
                _LOGGER.exception("the catalogue could not be followed")
                self._position = None
                self._stopping.wait(RETRY_S_MAX)

    def _read_all(self, lives: Sequence[LiveItems]) -> Position:
        """Applies every document that a generation does not hold; the place in the stream to go on from."""
        with translated():
            last: Any = self._client.xrevrange(CHANGES_KEY, count=1)
        position = position_of(last[0][0]) if last else (0, 0)
        oldest = min((live.built_in for live in [*lives, *self._lives]), default=(0, 0))
        for page in self._documents():
            ids, shown = [item_id for item_id, _ in page], [not looks_hidden(data) for _, data in page]
            wanted = np.array([position_in(data) > oldest for _, data in page], np.bool_)
            for live in lives:
                wanted |= live.contradicted(ids, shown)
            self._apply(lives, [page[place] for place in np.flatnonzero(wanted).tolist()])
        for live in lives:
            live.position = max(live.position, position)
        return position

    def _documents(self) -> Iterator[list[tuple[str, bytes]]]:
        """All documents, some at a time."""
        cursor = 0
        while True:
            with translated():
                answer: Any = self._client.hscan(ITEMS_KEY, cursor, count=READ_ENTRIES_MAX)
            cursor, found = answer
            yield [(item_id.decode(), data) for item_id, data in found.items()]
            if cursor == 0:
                return

    def _read_changes(self, position: Position) -> None:
        """One read of the stream: what a generation that has just joined has missed, then what is new."""
        start = min([live.position for live in self._lives] + [position])
        with translated():
            answer: Any = self._client.xread(
                {CHANGES_KEY: position_text(start)}, count=READ_ENTRIES_MAX, block=BLOCK_MS
            )
        if not answer:
            return
        [(_, entries)] = answer
        changes = []
        for entry_id, fields in entries:
            at = position_of(entry_id)
            if fields.get(b"k") == ITEM_KIND:
                data = fields[b"d"][:-1] + b"," + _AT + entry_id + b'"}'
                changes.append((fields[b"id"].decode(), data))
            elif fields.get(b"k") == PURGE_KIND and at > position:
                self._heard_purge(fields, entry_id.decode())
        self._apply(list(self._lives), changes)
        last = position_of(entries[-1][0])
        for live in self._lives:
            live.position = max(live.position, last)
        self._position = max(position, last)

    def _heard_purge(self, fields: dict[bytes, bytes], position: str) -> None:
        if self._on_purge is None:
            return
        try:
            self._on_purge(fields.get(b"id", b"").decode(), fields.get(b"d", b""), position)
        except Exception:  # one that fails must not keep the others from being heard
            _LOGGER.exception("a purge could not be followed", position=position)

    def _apply(self, lives: Sequence[LiveItems], changes: Sequence[tuple[str, bytes]]) -> None:
        if not changes:
            return
        with self._changing:
            for item_id, data in changes:
                if position_in(data) >= position_in(self._known.get(item_id, b"")):
                    self._known[item_id] = data
            self._offer(lives, changes)
        for live in lives:
            live.settle()

    def _offer(self, lives: Sequence[LiveItems], changes: Sequence[tuple[str, bytes]]) -> None:
        for begin in range(0, len(changes), READ_ENTRIES_MAX):
            documents = []
            for item_id, data in changes[begin : begin + READ_ENTRIES_MAX]:
                try:
                    documents.append((item_id, ItemDocument.from_json(data)))
                except DocumentInvalid as error:
                    _LOGGER.error("a document of an item cannot be read", item_id=item_id, reason=str(error))
            for live in lives:
                live.offer(documents)
