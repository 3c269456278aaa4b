"""The micro-batcher between the fronts and the engine.

Queries wait in one queue. Whoever has the engine takes what waits, up to a batch: a lone query goes at once, and while
the engine works the next batch forms by itself, so there is no timed wait to tune. Before work begins, entries whose
caller has gone or whose deadline has passed are dropped.

Two kinds of thread have the engine, one at a time. The batcher's own thread serves what event loops submit; it sleeps
while nothing waits. A front without an event loop (`front_native`) calls `serve` on the thread that receives, and takes
along whatever else waits.

    event loop:    submit → queue, wake ┐                              ┌→ desk: one call_soon_threadsafe a batch
    engine thread:                      └→ serve: pull → drop → answer ┤
    front thread:  put → queue → serve: pull → drop → answer ──────────┴→ desk: encode and send
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

from index.filters.kinds import AttributeKind
from server.domain import Answer, BatchTimings, Query
from server.errors import DeadlinePassed, EngineFault, NoGeneration, QueueFull, ShuttingDown
from server.niceness import give_way
from server.state.recent import ShopperStates
from server.waiting import Answered, Awaited, Desk, Entry, LoopWaiter, Outcome

ENGINE_NICENESS = 3
"""Of the batcher's own thread, so that an event loop on the same core takes and sends all that has come before the next
batch begins, and the two do not take the core from each other at every kernel (docs/performance.md)."""

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

    @property
    def attributes(self) -> Mapping[str, AttributeKind] | None:
        """The items' attributes that filters may name; None where there are none to filter by."""

    def answer(
        self, queries: Sequence[Query], states: ShopperStates | None = None, /
    ) -> tuple[list[Answer], BatchTimings]:
        """Answers any mix of queries, in their order. Called from one thread at a time.

        `states`: what the store knows of the queries' shoppers; the batcher hands in none (`server.state` does).
        """


class BatchRecord(NamedTuple):
    """What happened to one pulled batch, for metrics: recorded once for all its queries."""

    queue_s: list[float]
    timings: BatchTimings
    engine_s: float
    gone_count: int
    late_count: int


_AnyEntry = Entry[Any]
_Outcomes = list[tuple[_AnyEntry, Outcome]]


class _Pulled(NamedTuple):
    """What a batch consists of, and what was dropped on the way."""

    alive: list[_AnyEntry]
    late: list[_AnyEntry]
    gone_count: int


class MicroBatcher:
    """The queue, the engine, and the engine's own thread. `start`, `stop` and `submit` are for the event loop it was
    started on, everything else is safe from any thread.

    `deadline_s` and `queued_at_s` are `time.monotonic()` seconds.
    """

    def __init__(
        self,
        queue_length_max: int,
        batch_size_max: int,
        retry_after_ms: int,
        on_batch: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        """`on_batch` is called by whoever has the engine: never by two at a time."""
        self._queue_length_max = queue_length_max
        self._batch_size_max = batch_size_max
        self._retry_after_ms = retry_after_ms
        self._on_batch = on_batch
        self._engine: Engine | None = None
        self._queue: deque[_AnyEntry] = deque()
        self._serving = threading.Lock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_desk: Desk[LoopWaiter] = self._tell_on_loop  # one object: desks are told apart by identity
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def engine(self) -> Engine | None:
        """The engine that the next batch will ask; None until the first swap."""
        return self._engine

    @property
    def queue_length(self) -> int:
        """How many queries wait now."""
        return len(self._queue)

    def swap(self, engine: Engine) -> None:
        """The next batch asks `engine`; the one under way finishes on the one it began with."""
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
        self._wake.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # the last delivery was scheduled before the thread ended: let it run

    def submit(self, queries: Sequence[Query], deadline_s: float) -> list[asyncio.Future[Answered]]:
        """Queues all of the queries or none; a future that is cancelled withdraws its query.

        Raises:
            DeadlinePassed, QueueFull, NoGeneration, ShuttingDown: nothing was queued.
        """
        now_s = self.check(len(queries), deadline_s)
        assert self._loop is not None, "submit before start"
        futures = [self._loop.create_future() for _ in queries]
        self._put_and_wake(
            Entry(query, deadline_s, now_s, Awaited(future), self._loop_desk)
            for query, future in zip(queries, futures, strict=True)
        )
        return futures

    def submit_for(self, waiter: LoopWaiter, query: Query, deadline_s: float) -> None:
        """Queues one query whose waiter is told on the event loop.

        Raises:
            DeadlinePassed, QueueFull, NoGeneration, ShuttingDown: nothing was queued.
        """
        now_s = self.check(1, deadline_s)
        self._put_and_wake((Entry(query, deadline_s, now_s, waiter, self._loop_desk),))

    def check(self, query_count: int, deadline_s: float) -> float:
        """Whether so many queries may be queued now; returns the time.

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
        if len(self._queue) + query_count > self._queue_length_max:
            raise QueueFull(f"{self._queue_length_max} queries may wait for the engine", self._retry_after_ms)
        return now_s

    def put(self, entries: Iterable[_AnyEntry]) -> None:
        """Queues entries that have passed `check`, and that the caller will `serve`."""
        self._queue.extend(entries)

    def serve(self) -> None:
        """Answers one batch of what waits, if anything does; waits for the engine while another thread has it."""
        with self._serving:
            pulled = self._pull(time.monotonic())
            outcomes = self._work_whatever_happens(pulled)
        while outcomes:  # most often all are of one desk
            desk = outcomes[0][0].desk
            others = [told for told in outcomes if told[0].desk is not desk]
            desk([told for told in outcomes if told[0].desk is desk] if others else outcomes)
            outcomes = others

    def _run(self) -> None:
        give_way(ENGINE_NICENESS)
        while not self._closed or self._queue:
            # In this order: whoever queues after the look at the queue finds that the thread sleeps.
            self._asleep = True
            if not self._queue:
                self._wake.get()
            self._asleep = False
            self.serve()

    def _put_and_wake(self, entries: Iterable[_AnyEntry]) -> None:
        self._queue.extend(entries)
        if self._asleep:
            self._asleep = False
            self._wake.put(None)

    def _pull(self, now_s: float) -> _Pulled:
        """Takes what is there, up to a batch that is worth the work."""
        alive: list[_AnyEntry] = []
        late: list[_AnyEntry] = []
        gone_count = 0
        queue = self._queue
        while queue and len(alive) < self._batch_size_max:
            entry = queue.popleft()
            if entry.done():
                gone_count += 1
            elif entry.deadline_s <= now_s:
                late.append(entry)
            else:
                alive.append(entry)
        return _Pulled(alive, late, gone_count)

    def _work_whatever_happens(self, pulled: _Pulled) -> _Outcomes:
        late: _Outcomes = [(entry, DeadlinePassed("the engine could begin")) for entry in pulled.late]
        try:
            return late + self._work(pulled)
        except BaseException as error:  # the engine's thread is the only one: it must outlive whatever a batch does
            _LOGGER.exception("a batch of %d could not be finished", len(pulled.alive))
            fault = EngineFault(f"the batch failed: {type(error).__name__}")
            return late + [(entry, fault) for entry in pulled.alive]

    def _work(self, pulled: _Pulled) -> _Outcomes:
        began_at_s = time.monotonic()
        alive = pulled.alive
        outcomes: _Outcomes = []
        timings = _NO_TIMINGS
        if alive:
            outcomes, timings = self._answer(alive, began_at_s)
        if self._on_batch is not None and (alive or pulled.late or pulled.gone_count):
            waits_s = [began_at_s - entry.queued_at_s for entry in alive]
            engine_s = time.monotonic() - began_at_s
            self._on_batch(BatchRecord(waits_s, timings, engine_s, pulled.gone_count, len(pulled.late)))
        return outcomes

    def _answer(self, entries: list[_AnyEntry], began_at_s: float) -> tuple[_Outcomes, BatchTimings]:
        engine = self._engine
        assert engine is not None, "check refuses while there is no engine"
        try:
            answers, timings = engine.answer([entry.query for entry in entries])
            if len(answers) != len(entries):
                raise EngineFault(f"{len(entries)} queries got {len(answers)} answers")
        except Exception as error:
            if len(entries) == 1:
                return [(entries[0], error)], _NO_TIMINGS
            # One query must not fail its neighbours: each is asked alone, and only the culprit sees the error.
            _LOGGER.warning("a batch of %d failed (%s); its queries are asked one by one", len(entries), error)
            outcomes: _Outcomes = []
            timings = _NO_TIMINGS
            for entry in entries:
                if entry.done():
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

    def _tell_on_loop(self, told: Sequence[tuple[Entry[LoopWaiter], Outcome]]) -> None:
        assert self._loop is not None, "nothing is queued for the loop before start"
        self._loop.call_soon_threadsafe(_tell, told)


def _tell(told: Sequence[tuple[Entry[LoopWaiter], Outcome]]) -> None:
    for entry, outcome in told:
        if not entry.done():  # else the caller went while the engine worked
            entry.waiter.answered(outcome)


_NO_TIMINGS = BatchTimings(state_us=0, user_tower_us=0, retrieve_us=0, rank_us=0, batch_size=0)
