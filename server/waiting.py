"""Who waits for the answer to a query: what the fronts put into the batcher's queue, and how they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from server.domain import Answer, BatchTimings, Query


class Answered(NamedTuple):
    """An answer, how long its query waited for the engine, and what its batch took."""

    answer: Answer
    queue_s: float
    timings: BatchTimings


Outcome = Answered | Exception


class Waiter(Protocol):
    """Who waits for one answer."""

    def done(self) -> bool:
        """Whether the caller has gone: its query need not be answered any more. Called on any thread."""


class LoopWaiter(Waiter, Protocol):
    """Who waits for one answer on the event loop."""

    def answered(self, outcome: Outcome) -> None:
        """The answer, or why there is none. Called on the loop, unless `done`; must not raise."""


WaiterT = TypeVar("WaiterT", bound=Waiter)
Desk = Callable[[Sequence[tuple["Entry[WaiterT]", Outcome]]], None]
"""Tells the waiters of one batch's entries. Called once a batch on the thread that served it; must not raise."""


class Entry(Generic[WaiterT]):
    """One query in the queue, who waits for it, and the desk that tells them."""

    __slots__ = ("deadline_s", "desk", "query", "queued_at_s", "waiter")

    def __init__(
        self, query: Query, deadline_s: float, queued_at_s: float, waiter: WaiterT, desk: Desk[WaiterT]
    ) -> None:
        self.query = query
        self.deadline_s = deadline_s
        self.queued_at_s = queued_at_s
        self.waiter = waiter
        self.desk = desk

    def done(self) -> bool:
        """Whether the caller has gone."""
        return self.waiter.done()


class Awaited:
    """A future of the event loop as a waiter."""

    __slots__ = ("_future", "done")

    def __init__(self, future: asyncio.Future[Answered]) -> None:
        self._future = future
        self.done = future.done

    def answered(self, outcome: Outcome) -> None:
        """Sets the future."""
        if isinstance(outcome, Exception):
            self._future.set_exception(outcome)
        else:
            self._future.set_result(outcome)
