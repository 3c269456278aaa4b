"""The item tables of one generation as they change while it serves.

A new item takes a spare row, a changed one is computed anew in its own row and keeps its statistics, one that is
deleted or out of stock keeps its row and is not retrievable. Rows are never given to another item, so that a row that
a batch holds stays the item it was.

Two threads meet here. The follower's thread `offer`s: it reads documents and runs the item tower, which takes
milliseconds, on arrays of its own. The tables themselves are written only by whoever holds the lock, and an engine
holds it for the length of a batch (`with live:`): so no batch ever sees a half-written row, nor a row that changes
under its hands, whatever numpy, BLAS or a compiled kernel does without Python's lock. It costs a batch one
acquisition that nobody contends, 0.1 µs. What was offered is written in by the next batches as they begin, so a busy
engine cannot starve it, and by the follower itself when the engine is idle.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from index.filters import AttributeKind, AttributeTable
from server.catalogue.document import ItemDocument, Position, Value, position_of
from server.catalogue.item_embedder import ItemEmbedder
from server.catalogue.live_ids import LiveItemIds
from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array

IDLE_PATIENCE_S = 0.02
"""How long the follower waits for a batch to end before it looks whether its changes are in."""
WRITING_S_MAX = 0.002
"""How long a batch is held up by changes; a thousand take a dozen batches, or the pauses between some."""
_WRITTEN_AT_ONCE = 64
"""Items of one piece: a piece is never interrupted."""
SAME_VECTOR_TOLERANCE = 1e-5
"""A vector that differs by less from the indexed one is the same: the index keeps finding it."""

_LOGGER = structlog.stdlib.get_logger("twinrank.catalogue")

RowsChanged = Callable[[Sequence[int]], None]
"""Told of rows that have been written; between two batches."""


@dataclass(frozen=True)
class LiveTables:
    """The arrays of a generation that change, (n + spare, …) each, writable and private to this process."""

    vectors: FloatArray
    affinity: Int32Array
    statistics: FloatArray
    retrievable: BoolArray
    item_part: FloatArray

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> LiveTables:
        """From the arrays of items.safetensors."""
        return cls(*(arrays[name] for name in ("vectors", "affinity", "statistics", "retrievable", "item_part")))


@dataclass(frozen=True)
class Delta:
    """What the generation's index does not know: changed between batches, read within them.

    Attributes:
        allowed: (index rows,) bool, which of the index's rows may be found by it.
        hidden_count: how many may not.
        rows: (m,) ascending rows that are searched beside it. columns: (D, m) their vectors; None where m is 0.
    """

    allowed: BoolArray
    hidden_count: int
    rows: Int64Array
    columns: FloatArray | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """m changes, the newest of each item, ready to be written in."""

    item_ids: list[str]
    documents: list[ItemDocument]
    place: list[int]
    """Of each item among the embedded ones; -1 for a deleted one."""
    vectors: FloatArray
    affinity: Int32Array


@dataclass
class LiveCounts:
    """What became of the spare rows and the changes so far."""

    spare_left: int
    applied: int = 0
    without_row: int = 0
    """New items that found no spare row: they appear with the next generation."""
    ids_without_row: set[str] = field(default_factory=set)


class LiveItems:
    """One generation's live tables. A context manager: an engine computes a batch within it."""

    def __init__(self, tables: LiveTables, ids: LiveItemIds, index_row_count: int, embedder: ItemEmbedder) -> None:
        """`index_row_count`: the base index holds rows 0 … index_row_count - 1, all of them retrievable."""
        self.ids = ids
        self.delta: Delta | None = None
        """None as long as nothing changed."""
        self.counts = LiveCounts(spare_left=len(tables.vectors) - len(ids))
        self.position: Position = (0, 0)
        """Changes up to there have been offered, or were built in."""
        self.built_in: Position = (0, 0)
        """Changes up to there stood in the generation's files."""
        self._attributes: AttributeTable | None = None
        self._listeners: list[weakref.WeakMethod[RowsChanged]] = []
        self._tables = tables
        self._embedder = embedder
        self._index_row_count = index_row_count
        self._allowed: BoolArray = np.ones(index_row_count, np.bool_)
        self._moved: BoolArray = np.zeros(len(tables.vectors), np.bool_)
        """Rows whose vector is another than the one that the index has."""
        self._seen: dict[str, Position] = {}
        self._offered: deque[_Prepared] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> LiveItems:
        self._lock.acquire()
        try:
            if self._offered:
                self._write_offered()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    @property
    def vectors(self) -> FloatArray:
        """(n + spare, D) of every row; for use within a batch."""
        return self._tables.vectors

    def table_follows(self, attributes: AttributeTable) -> None:
        """From here on the table has the attributes of changed items."""
        self._attributes = attributes

    def listen(self, changed: RowsChanged) -> None:
        """`changed`, a method, is called with rows when they have been written, as long as its object lives."""
        with self._lock:
            self._listeners = [each for each in self._listeners if each() is not None]
            self._listeners.append(weakref.WeakMethod(changed))

    def offer(self, changes: Sequence[tuple[str, ItemDocument]]) -> None:
        """Takes changes in the order of the stream; what is older than what is known of an item is passed over.

        For one thread at a time. They are in the tables when the next batches begin.
        """
        newest: dict[str, ItemDocument] = {}
        contradicted = self.contradicted([item_id for item_id, _ in changes], [each.retrievable for _, each in changes])
        for (item_id, document), is_contradicted in zip(changes, contradicted.tolist(), strict=True):
            at = position_of(document.at or "0-0")
            if (at > self.built_in or is_contradicted) and at > self._seen.get(item_id, (0, 0)):
                self._seen[item_id] = at
                newest[item_id] = document
        whole = [(item_id, document) for item_id, document in newest.items() if not document.deleted]
        embedded = self._embedder.embed([item_id for item_id, _ in whole], [document for _, document in whole])
        place_of = {item_id: place for place, (item_id, _) in enumerate(whole)}
        ids = list(newest)
        for begin in range(0, len(ids), _WRITTEN_AT_ONCE):
            piece = ids[begin : begin + _WRITTEN_AT_ONCE]
            places = [place_of.get(item_id, -1) for item_id in piece]
            self._offered.append(
                _Prepared(piece, [newest[item_id] for item_id in piece], places, embedded.vectors, embedded.affinity)
            )

    def contradicted(self, item_ids: Sequence[str], retrievable: Sequence[bool]) -> BoolArray:
        """(m,) whether the tables hide what documents show, or show what they hide.

        A generation that was trained anew decides by its buyers what may be recommended, also of items whose documents
        it holds: what the shop says of them goes on top, however old it is.
        """
        rows = self.ids.rows(item_ids)
        shown = (rows >= 0) & self._tables.retrievable[np.maximum(rows, 0)]
        differs: BoolArray = shown != np.array(retrievable, np.bool_)
        return differs

    def settle(self) -> None:
        """Sees to it that everything that was offered is in the tables: written in by batches, or here between them."""
        while self._offered:
            if self._lock.acquire(timeout=IDLE_PATIENCE_S):
                try:
                    self._write_offered()
                finally:
                    self._lock.release()

    def _write_offered(self) -> None:
        """Writes for `WRITING_S_MAX`, at least one piece; the rest is for the next batch."""
        began_s = time.monotonic()
        rows: list[int] = []
        while self._offered and (not rows or time.monotonic() - began_s < WRITING_S_MAX):
            prepared = self._offered.popleft()
            try:
                rows += self._write(prepared)
            except Exception:  # a batch must be answered whatever is wrong with the catalogue
                _LOGGER.exception("changes of items could not be written in", item_ids=prepared.item_ids[:10])
        self._look_again(np.unique(np.array(rows, np.int64)))

    def _write(self, prepared: _Prepared) -> list[int]:
        """The rows that were written."""
        rows = self._rows_for(prepared)
        tables = self._tables
        written = np.array([n for n, (row, at) in enumerate(zip(rows, prepared.place, strict=True)) if row >= 0 <= at])
        if len(written):
            target = np.array(rows)[written]
            vectors = prepared.vectors[np.array(prepared.place)[written]]
            same = (np.abs(vectors - tables.vectors[target]) <= SAME_VECTOR_TOLERANCE).all(axis=1)
            self._moved[target[~same]] = True
            tables.vectors[target] = vectors
            tables.affinity[target] = prepared.affinity[np.array(prepared.place)[written]]
            tables.item_part[target] = self._embedder.item_part(vectors, tables.statistics[target])
        for row, document in zip(rows, prepared.documents, strict=True):
            if row >= 0:
                tables.retrievable[row] = document.retrievable
                if self._attributes is not None and not document.deleted:
                    self._attributes.set(row, _of_kinds(document.attributes, self._attributes))
        told = [row for row in rows if row >= 0]
        self.counts.applied += len(told)
        for listener in self._listeners:
            if (tell := listener()) is not None:
                tell(told)
        return told

    def _rows_for(self, prepared: _Prepared) -> list[int]:
        """The row of each item, a spare one for a new item; -1 where there is none left, or nothing to delete."""
        rows: list[int] = self.ids.rows(prepared.item_ids).tolist()
        for place, (item_id, document) in enumerate(zip(prepared.item_ids, prepared.documents, strict=True)):
            if rows[place] >= 0 or document.deleted:
                continue
            if self.counts.spare_left == 0:
                self.counts.without_row += 1
                self.counts.ids_without_row.add(item_id)
                _LOGGER.error("no spare row for a new item until the catalogue is compacted", item_id=item_id)
                continue
            rows[place] = self.ids.add(item_id)
            self.counts.spare_left -= 1
            self._tables.statistics[rows[place]] = self._embedder.statistics_of_nobodys
        return rows

    def _look_again(self, rows: Int64Array) -> None:
        """What the index must not find, and what is searched beside it, after these rows were written."""
        before = self.delta or Delta(self._allowed, 0, np.zeros(0, np.int64), None)
        indexed = rows < self._index_row_count
        found_by_index = indexed & self._tables.retrievable[rows] & ~self._moved[rows]
        hidden_count = before.hidden_count + int(self._allowed[rows[indexed]].sum()) - int(found_by_index.sum())
        self._allowed[rows[indexed]] = found_by_index[indexed]
        now_beside = rows[self._tables.retrievable[rows] & ~found_by_index]
        kept = np.setdiff1d(before.rows, rows, assume_unique=True)
        beside = np.union1d(kept, now_beside)
        columns = before.columns
        if len(now_beside) or len(kept) < len(before.rows):
            columns = np.ascontiguousarray(self._tables.vectors[beside].T) if len(beside) else None
        self.delta = Delta(self._allowed, hidden_count, beside, columns)


def _of_kinds(attributes: Mapping[str, Value], table: AttributeTable) -> dict[str, Value]:
    """What the table takes of a document, which may have been written for a generation with other attributes."""
    kinds = table.kinds
    return {
        name: value
        for name, value in attributes.items()
        if name in kinds and isinstance(value, str) is not (kinds[name] is AttributeKind.NUMERIC)
    }
