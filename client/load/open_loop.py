"""The open loop: starts each request at its intended time, whatever became of the ones before.

A latency is measured from the intended start. A server, or a load test, that stalls for a second makes every request
that was due in that second late, and each is counted with its own delay; measured from the real start, that second
would count once (coordinated omission: Gil Tene, "How NOT to Measure Latency", 2013).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from client.load.latency import LatencyHistogram

OK = "OK"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
UNSENT = "UNSENT"
SETTLE_RATIO = 0.005
"""A request that goes out, and an answer that comes, later than the window by up to this part of it still counts: a
tail, no backlog. A server may seem faster by as much; a run of 10 s forgives 50 ms at its end."""

Send = Callable[[int], Awaitable[str]]
"""Sends the request of this number and says how it ended: OK or the name of a status code."""


@dataclass(slots=True)
class Tally:
    """What came of the requests whose intended start lies in the measured window, [warm_up_s, end_s).

    `latency` holds answers and time-outs, and for requests that were never sent the time that they had waited; other
    errors come quickly and would flatter it, so they are only counted. `start_lag` is by how much this load test itself
    was late: where it is large, the latencies are its own and not the server's.
    """

    warm_up_s: float
    end_s: float
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    start_lag: LatencyHistogram = field(default_factory=LatencyHistogram)
    by_status: dict[str, int] = field(default_factory=dict)
    achieved_count: int = 0
    finished_count: int = 0
    in_flight: int = 0

    @property
    def settled_s(self) -> float:
        """When the run is over: the window's end and a little."""
        return self.end_s + SETTLE_RATIO * (self.end_s - self.warm_up_s)

    def start(self, due_s: float, now_s: float) -> None:
        """A request goes out; times are seconds since the run began."""
        self.in_flight += 1
        if due_s >= self.warm_up_s:
            self.start_lag.record(now_s - due_s)

    def finish(self, due_s: float, now_s: float, status: str) -> None:
        """A request has ended."""
        self.in_flight -= 1
        self.finished_count += 1
        if due_s >= self.warm_up_s:
            self._count(due_s, now_s, status)
            if status == OK and now_s <= self.settled_s:
                self.achieved_count += 1

    def drop(self, due_s: float, now_s: float) -> None:
        """A request was due and never went out."""
        if due_s >= self.warm_up_s:
            self._count(due_s, now_s, UNSENT)

    def _count(self, due_s: float, now_s: float, status: str) -> None:
        self.by_status[status] = self.by_status.get(status, 0) + 1
        if status in (OK, DEADLINE_EXCEEDED, UNSENT):
            self.latency.record(now_s - due_s)


async def drive(
    arrivals_s: Sequence[float],
    send: Send,
    tally: Tally,
    *,
    in_flight_max: int,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Runs the schedule, then waits for what is in flight; `send` must bound its own time.

    At `in_flight_max` unanswered requests the next ones wait, and their latency counts the wait. Those that still wait
    after the window are dropped. What `send` raises ends the run and is raised here, in an ExceptionGroup.
    """
    slots = asyncio.Semaphore(in_flight_max)
    begin_s = clock()

    async def one(number: int, due_s: float) -> None:
        tally.start(due_s, clock() - begin_s)
        try:
            status = await send(number)
        finally:
            slots.release()
        tally.finish(due_s, clock() - begin_s, status)

    async with asyncio.TaskGroup() as tasks:
        for number, due_s in enumerate(arrivals_s):
            # Behind schedule this yields without waiting, so that answers in between are not held up.
            await sleep(max(0.0, begin_s + due_s - clock()))
            await slots.acquire()
            now_s = clock() - begin_s
            if now_s >= tally.settled_s:
                for late_due_s in arrivals_s[number:]:
                    tally.drop(late_due_s, now_s)
                break
            tasks.create_task(one(number, due_s))
