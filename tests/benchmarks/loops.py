"""Load from this process: a closed loop that keeps a server full, an open loop for latencies.

Both count what came back OK, so that a figure can be checked against the server's own counter; and they know what they
cost themselves, so that a figure can be told from one of the load's own.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from client.load.arrivals import poisson_arrivals

IN_FLIGHT = 32
TIMEOUT_S = 5.0
OPEN_LOOP_WARM_UP_S = 0.3
_SPIN_S = 0.002
"""Event loops keep time to a millisecond. What is due sooner than this is waited for awake: the core is the load's."""


@dataclass
class Counted:
    """What a load sent and got: requests answered OK, and the calls that carried them."""

    requests: int = 0
    calls: int = 0
    failed: int = 0

    def add(self, transport: Transport, answered: bool) -> None:
        """One call has ended."""
        self.calls += 1
        if answered:
            self.requests += transport.requests_per_unit
        else:
            self.failed += 1


class Transport(ABC):
    """One way of asking.

    Attributes:
        requests_per_unit: how many requests one unit of work carries.
        in_flight: how many units a closed loop keeps under way.
        in_flight_max: how many an open loop lets be under way; more wait here, and their latency counts the wait. 512
            requests are as many as may wait for our engine: a client that sends more is refused.
    """

    requests_per_unit: int = 1
    in_flight: int = IN_FLIGHT
    in_flight_max: int = 512

    @abstractmethod
    async def open(self, target: str) -> None:
        """Connects. Raises OSError."""

    @abstractmethod
    def start(self, number: int, done: Callable[[bool], None]) -> None:
        """Sends the unit of this number; `done` learns whether it was answered well, never before this returns."""

    @abstractmethod
    async def close(self) -> None:
        """Ends the connections."""

    async def send(self, number: int) -> bool:
        """One unit, waited for; not answered in time is not answered well."""
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(well: bool) -> None:
            if not answered.done():  # it may have been given up
                answered.set_result(well)

        self.start(number, done)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await answered
        except TimeoutError:
            return False


@dataclass(frozen=True)
class Latencies:
    """From the intended starts, in milliseconds; `start_lag_p99_ms` is by how much the load itself was late."""

    p50_ms: float
    p99_ms: float
    start_lag_p99_ms: float


async def closed_loop(transport: Transport, seconds: float, counted: Counted) -> float:
    """Keeps `transport.in_flight` units under way for `seconds`; returns requests answered OK a second."""
    finished = asyncio.get_running_loop().create_future()
    began = time.perf_counter()
    until, before = began + seconds, counted.requests
    number, left = 0, transport.in_flight

    def next_one(answered: bool) -> None:
        nonlocal number, left
        counted.add(transport, answered)
        if time.perf_counter() < until:
            number += 1
            transport.start(number, next_one)
            return
        left -= 1
        if left == 0 and not finished.done():
            finished.set_result(None)

    for _ in range(transport.in_flight):
        number += 1
        transport.start(number, next_one)
    await asyncio.wait_for(finished, seconds + 2 * TIMEOUT_S)
    return (counted.requests - before) / (time.perf_counter() - began)


async def open_loop(
    transport: Transport, rate: float, seconds: float, counted: Counted, *, spin_s: float = _SPIN_S
) -> Latencies:
    """Poisson arrivals at `rate` requests a second, each at its time whatever became of the ones before.

    `spin_s` 0 never waits awake: for a load that shares its core with the server, at up to a millisecond of delay,
    which counts too.
    """
    end_s = OPEN_LOOP_WARM_UP_S + seconds
    due = [*poisson_arrivals(rate / transport.requests_per_unit, end_s, seed=1)]
    loop, begin = asyncio.get_running_loop(), time.perf_counter()
    finished = loop.create_future()
    latencies_s: list[float] = []
    lags_s: list[float] = []
    started = under_way = 0
    is_waiting = False

    def start_due() -> None:
        nonlocal started, under_way, is_waiting
        is_waiting = False
        now = time.perf_counter() - begin
        while started < len(due) and due[started] <= now and under_way < transport.in_flight_max:
            due_s = due[started]
            if due_s >= OPEN_LOOP_WARM_UP_S:
                lags_s.append(now - due_s)
            started += 1
            under_way += 1
            transport.start(started, partial(end, due_s))
            now = time.perf_counter() - begin
        wait_for_next(now)

    def wait_for_next(now: float) -> None:
        nonlocal is_waiting
        if started == len(due) or under_way >= transport.in_flight_max:
            return
        is_waiting, delay_s = True, due[started] - now
        if delay_s > spin_s:
            loop.call_later(delay_s - spin_s, start_due)
        else:
            loop.call_soon(start_due)

    def end(due_s: float, answered: bool) -> None:
        nonlocal under_way
        under_way -= 1
        counted.add(transport, answered)
        if due_s >= OPEN_LOOP_WARM_UP_S:
            latencies_s.append(time.perf_counter() - begin - due_s)
        if started == len(due):
            if under_way == 0 and not finished.done():
                finished.set_result(None)
        elif not is_waiting:
            start_due()

    start_due()
    await asyncio.wait_for(finished, end_s + 4 * TIMEOUT_S)
    p50_s, p99_s = np.percentile(latencies_s, [50, 99])
    return Latencies(float(p50_s) * 1e3, float(p99_s) * 1e3, float(np.percentile(lags_s, 99)) * 1e3)
