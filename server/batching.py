"""The micro-batcher between the event loop and the engine.

One thread owns the engine. Whenever it is free it pulls what waits, up to a batch: a lone query goes at once, and while
the engine works the next batch forms by itself, so there is no timed wait to tune. Before work begins, entries whose
caller has gone or whose deadline has passed are dropped. Futures of the event loop get their results with one
`call_soon_threadsafe` a batch; a front without a loop brings waiters of its own, which are told on the engine thread.

    event loop:  submit → SimpleQueue ─┐                       ┌→ deliver → futures
    engine thread:                     └→ pull → drop → answer ┴→ waiters
    other front: entries → put ────────┘ (as above)
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from server.domain import Answer, BatchTimings, Query
from server.errors import DeadlinePassed, EngineFault, NoGeneration, QueueFull, ShuttingDown

_LOGGER = logging.getLogger(__name__)


class Engine(Protocol):
    """What the server needs of an engine: a pure function of a batch, bound to one generation."""

    @property
    def generation_id(self) -> str:
        """The generation that this engine answers from."""

    @property
    def event_types(self) -> tuple[str, ...]:
        """Event types that the model knows."""

    @property
    def context_columns(self) -> tuple[str, ...]:
        """Context columns that the model knows."""

    def answer(self, queries: Sequence[Query]) -> tuple[list[Answer], BatchTimings]:
        """Answers any mix of queries, in their order. Called from one thread at a time."""


class Answered(NamedTuple):
    """An answer, how long its query waited for the engine, and what its batch took."""

    answer: Answer
    queue_s: float
    timings: BatchTimings


class BatchRecord(NamedTuple):
    """What happened to one pulled batch, for metrics: recorded once for all its queries."""

    queue_s: list[float]
    timings: BatchTimings
    engine_s: float
    gone_count: int
    late_count: int


class Waiter(Protocol):
    """Who waits for one answer. Called on the engine thread; must not raise."""

    def done(self) -> bool:
        """Whether the caller has gone: its query need not be answered any more."""

    def answered(self, outcome: Answered | Exception) -> None:
        """The answer, or why there is none."""


class Entry:
    """One query in the queue, and who waits for it."""

    __slots__ = ("deadline_s", "query", "queued_at_s", "waiter")

    def __init__(
        self, query: Query, deadline_s: float, queued_at_s: float, waiter: asyncio.Future[Answered] | Waiter
    ) -> None:
        self.query = query
        self.deadline_s = deadline_s
        self.queued_at_s = queued_at_s
        self.waiter = waiter


_Outcome = tuple[Entry, Answered | Exception]


class MicroBatcher:
    """Owns the engine thread. `start`, `stop` and `submit` are for the event loop it was started on.

    `deadline_s` and `queued_at_s` are `time.monotonic()` seconds.
    """

    def __init__(
        self,
        queue_length_max: int,
        batch_size_max: int,
        retry_after_ms: int,
        on_batch: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        self._queue_length_max = queue_length_max
        self._batch_size_max = batch_size_max
        self._retry_after_ms = retry_after_ms
        self._on_batch = on_batch
        self._engine: Engine | None = None
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def engine(self) -> Engine | None:
        """The engine that the next batch will ask; None until the first swap."""
        return self._engine

    @property
    def queue_length(self) -> int:
        """How many queries wait now."""
        return self._queue.qsize()

    def swap(self, engine: Engine) -> None:
        """The next batch asks `engine`; the one under way finishes on the one it began with. Safe from any thread."""
        self._engine = engine

    def start(self) -> None:
        """Starts the engine thread; answers will be delivered on the running loop."""
        assert self._thread is None, "started twice"
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Refuses new queries, lets those that wait be answered, and ends the thread."""
        if self._thread is None or self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # the last delivery was scheduled before the thread ended: let it run

    def submit(self, queries: Sequence[Query], deadline_s: float) -> list[asyncio.Future[Answered]]:
        """Queues all of the queries or none; a future that is cancelled withdraws its query.

        Raises:
            DeadlinePassed, QueueFull, NoGeneration, ShuttingDown: nothing was queued.
        """
        now_s = self.check(len(queries), deadline_s)
        assert self._loop is not None, "submit before start"
        futures: list[asyncio.Future[Answered]] = []
        for query in queries:
            future: asyncio.Future[Answered] = self._loop.create_future()
            self._queue.put(Entry(query, deadline_s, now_s, future))
            futures.append(future)
        return futures

    def check(self, query_count: int, deadline_s: float, ahead_count: int = 0) -> float:
        """Whether so many queries may be queued now; returns the time to write on them. Safe from any thread.

        `ahead_count` are those that the caller has checked and not put yet.

        Raises:
            DeadlinePassed, QueueFull, NoGeneration, ShuttingDown: they may not.
        """
        if self._closed:
            raise ShuttingDown
        if self._engine is None:
            raise NoGeneration
        now_s = time.monotonic()
        if now_s >= deadline_s:
            raise DeadlinePassed("the query could be queued")
        if self._queue.qsize() + ahead_count + query_count > self._queue_length_max:
            raise QueueFull(f"{self._queue_length_max} queries may wait for the engine", self._retry_after_ms)
        return now_s

    def put(self, entries: Iterable[Entry]) -> None:
        """Queues entries that have passed `check`. Safe from any thread."""
        for entry in entries:
            self._queue.put(entry)

    def _run(self) -> None:
        assert self._loop is not None
        while True:
            batch, closing = self._pull()
            outcomes: list[_Outcome] = []
            record: BatchRecord | None = None
            try:
                outcomes, record = self._work(batch)
            except BaseException as error:  # the thread is the only one: it must outlive whatever a batch does
                _LOGGER.exception("the engine thread could not finish a batch of %d", len(batch))
                fault = EngineFault(f"the engine thread failed: {type(error).__name__}")
                outcomes = [(entry, fault) for entry in batch]
            if self._on_batch is not None and record is not None:
                self._on_batch(record)
            self._hand_out(outcomes, self._loop)
            if closing:
                return
            del batch, outcomes, record  # nothing of a batch, nor its engine, is held while waiting for the next

    def _pull(self) -> tuple[list[Entry], bool]:
        """Waits for one entry, then takes what is there, without those whose caller has gone. True: stop after it."""
        pulled: list[Entry] = []
        entry = self._queue.get()
        try:
            while entry is not None:
                pulled.append(entry)
                if len(pulled) >= self._batch_size_max:
                    return pulled, False
                entry = self._queue.get_nowait()
        except Empty:
            return pulled, False
        return pulled, True

    def _work(self, pulled: list[Entry]) -> tuple[list[_Outcome], BatchRecord]:
        now_s = time.monotonic()
        late: list[_Outcome] = []
        alive: list[Entry] = []
        for entry in pulled:
            if entry.waiter.done():
                continue
            if entry.deadline_s <= now_s:
                late.append((entry, DeadlinePassed("the engine could begin")))
            else:
                alive.append(entry)
        gone_count = len(pulled) - len(alive) - len(late)
        timings = _NO_TIMINGS
        outcomes = late
        if alive:
            outcomes, timings = self._answer(alive, now_s)
            outcomes += late
        waits_s = [now_s - entry.queued_at_s for entry in alive]
        record = BatchRecord(waits_s, timings, time.monotonic() - now_s, gone_count, len(late))
        return outcomes, record

    def _answer(self, entries: list[Entry], began_at_s: float) -> tuple[list[_Outcome], BatchTimings]:
        engine = self._engine
        assert engine is not None, "submit refuses while there is no engine"
        try:
            answers, timings = engine.answer([entry.query for entry in entries])
            if len(answers) != len(entries):
                raise EngineFault(f"{len(entries)} queries got {len(answers)} answers")
        except Exception as error:
            if len(entries) == 1:
                return [(entries[0], error)], _NO_TIMINGS
            # One query must not fail its neighbours: each is asked alone, and only the culprit sees the error.
            _LOGGER.warning("a batch of %d failed (%s); its queries are asked one by one", len(entries), error)
            outcomes: list[_Outcome] = []
            timings = _NO_TIMINGS
            for entry in entries:
                if entry.waiter.done():
                    continue
                if entry.deadline_s <= time.monotonic():
                    outcomes.append((entry, DeadlinePassed("the engine could begin")))
                    continue
                alone, timings = self._answer([entry], began_at_s)
                outcomes += alone
            return outcomes, timings
        return [
            (entry, Answered(answer, began_at_s - entry.queued_at_s, timings))
            for entry, answer in zip(entries, answers, strict=True)
        ], timings

    def _hand_out(self, outcomes: list[_Outcome], loop: asyncio.AbstractEventLoop) -> None:
        on_loop: list[tuple[asyncio.Future[Answered], Answered | Exception]] = []
        for entry, outcome in outcomes:
            waiter = entry.waiter
            if isinstance(waiter, asyncio.Future):
                on_loop.append((waiter, outcome))
            else:
                waiter.answered(outcome)
        if on_loop:
            loop.call_soon_threadsafe(_deliver, on_loop)


def _deliver(outcomes: list[tuple[asyncio.Future[Answered], Answered | Exception]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # the caller went while the engine worked
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


_NO_TIMINGS = BatchTimings(state_us=0, user_tower_us=0, retrieve_us=0, rank_us=0, batch_size=0)
