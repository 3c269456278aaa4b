"""The loop under a clock of its own: every latency is computed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from client.load.arrivals import constant_arrivals
from client.load.open_loop import DEADLINE_EXCEEDED, OK, UNSENT, Tally, drive


class Clock:
    """Time that passes only when somebody sleeps or stalls."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        wake_s = self.now_s + seconds
        for _ in range(3):  # whoever can run, runs before time passes
            await asyncio.sleep(0)
        self.now_s = max(self.now_s, wake_s)


class Recording(Tally):
    """A tally that also keeps every latency."""

    def finish(self, due_s: float, now_s: float, status: str) -> None:
        super().finish(due_s, now_s, status)
        self.seen.append(round(now_s - due_s, 6))

    seen: list[float]


def recording(warm_up_s: float, end_s: float) -> Recording:
    tally = Recording(warm_up_s, end_s)
    tally.seen = []
    return tally


async def run(tally: Tally, clock: Clock, send: Callable[[int], Awaitable[str]], in_flight_max: int = 1000) -> None:
    arrivals = constant_arrivals(100.0, tally.end_s)
    await drive(arrivals, send, tally, in_flight_max=in_flight_max, clock=clock, sleep=clock.sleep)


async def test_a_stall_makes_every_request_late_that_was_due_in_it() -> None:
    clock, tally = Clock(), recording(0.0, 0.3)

    async def send(number: int) -> str:
        if number == 0:
            clock.now_s += 0.2  # everything stands still for 200 ms
        return OK

    await run(tally, clock, send)
    # Due every 10 ms: the first takes the stall, the next ones what was left of it when they were due.
    assert tally.seen == [pytest.approx(max(0.0, 0.2 - 0.01 * number), abs=1e-6) for number in range(30)]
    assert tally.by_status == {OK: 30}
    # Measured from the real start 29 of the 30 would have taken nothing; so p50 and p90 show the stall.
    assert tally.latency.percentile_ms(50) == pytest.approx(50, abs=11)
    assert tally.latency.percentile_ms(90) == pytest.approx(170, abs=11)
    assert tally.start_lag.max_ms == pytest.approx(190, rel=2e-3)


async def test_a_server_in_time_has_its_own_latency() -> None:
    clock, tally = Clock(), recording(0.0, 0.1)

    async def send(number: int) -> str:
        clock.now_s += 0.004
        return OK

    await run(tally, clock, send)
    assert tally.seen == [0.004] * 10
    assert tally.achieved_count == 10


async def test_warm_up_is_sent_but_not_counted() -> None:
    clock, tally, sent = Clock(), recording(0.05, 0.1), []

    async def send(number: int) -> str:
        sent.append(number)
        return OK

    await run(tally, clock, send)
    assert sent == list(range(10))
    assert tally.by_status == {OK: 5}
    assert tally.latency.count == 5


async def test_at_the_limit_in_flight_the_wait_counts_and_the_rest_is_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.load.open_loop.SETTLE_RATIO", 0.21)
    clock, tally = Clock(), recording(0.0, 0.1)

    async def send(number: int) -> str:
        clock.now_s += 0.04  # a server that does one at a time, 25 a second, asked for 100
        return OK

    await run(tally, clock, send, in_flight_max=1)
    # Sent at 0, 40, 80 and 120 ms, due at 0, 10, 20 and 30 ms; the fifth would start 160 ms after the window's begin.
    assert tally.seen == [0.04, 0.07, 0.1, 0.13]
    assert tally.by_status == {OK: 4, UNSENT: 6}
    assert tally.latency.count == 10
    assert tally.achieved_count == 3


async def test_errors_are_counted_by_status_and_only_timeouts_have_a_latency() -> None:
    clock, tally = Clock(), recording(0.0, 0.1)

    async def send(number: int) -> str:
        return {0: "RESOURCE_EXHAUSTED", 1: DEADLINE_EXCEEDED}.get(number, OK)

    await run(tally, clock, send)
    assert tally.by_status == {"RESOURCE_EXHAUSTED": 1, DEADLINE_EXCEEDED: 1, OK: 8}
    assert tally.latency.count == 9
    assert tally.achieved_count == 8


async def test_an_answer_long_after_the_window_is_not_achieved() -> None:
    clock, tally = Clock(), recording(0.0, 0.1)

    async def send(number: int) -> str:
        if number == 9:
            clock.now_s += 1.0
        return OK

    await run(tally, clock, send)
    assert tally.by_status == {OK: 10}
    assert tally.achieved_count == 9


async def test_a_broken_sender_ends_the_run() -> None:
    clock, tally = Clock(), recording(0.0, 0.1)

    async def send(number: int) -> str:
        raise RuntimeError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        await run(tally, clock, send)
    assert caught.group_contains(RuntimeError, match="broken")
