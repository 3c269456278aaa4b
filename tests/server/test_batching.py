"""The micro-batcher alone: what forms a batch, what is dropped, what a swap does."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest

from server.batching import ENGINE_NICENESS, BatchRecord, MicroBatcher
from server.domain import RecommendQuery, RepeatPolicy, Shopper
from server.errors import DeadlinePassed, NoGeneration, QueueFull, ShuttingDown
from server.niceness import give_way
from tests.server.fake_engine import POISON, FakeEngine
from tests.server.waiting import until

FAR = float("inf")


def query(user_id: str = "u") -> RecommendQuery:
    return RecommendQuery("home", Shopper(user_id=user_id), 0.0, 3, RepeatPolicy.ALLOW)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def records() -> list[BatchRecord]:
    return []


@pytest.fixture
async def batcher(engine: FakeEngine, records: list[BatchRecord]) -> AsyncIterator[MicroBatcher]:
    batcher = MicroBatcher(queue_length_max=8, batch_size_max=4, retry_after_ms=50, on_batch=records.append)
    batcher.start()
    batcher.swap(engine)
    yield batcher
    engine.gate.set()
    await batcher.stop()


async def test_a_lone_query_goes_at_once(batcher: MicroBatcher, engine: FakeEngine) -> None:
    [future] = batcher.submit([query()], FAR)
    answered = await future
    assert answered.timings.batch_size == 1
    assert 0 <= answered.queue_s < 1


async def test_what_waits_while_the_engine_works_becomes_one_batch(batcher: MicroBatcher, engine: FakeEngine) -> None:
    engine.gate.clear()
    [first] = batcher.submit([query("first")], FAR)
    await asyncio.to_thread(engine.entered.acquire)
    waiting = [batcher.submit([query(f"{number}")], FAR)[0] for number in range(6)]
    engine.gate.set()
    await asyncio.gather(first, *waiting)
    users = [[entry.shopper.user_id for entry in batch] for batch in engine.batches]  # type: ignore[union-attr]
    assert users == [["first"], ["0", "1", "2", "3"], ["4", "5"]]


async def test_more_than_the_queue_holds_is_refused_whole(batcher: MicroBatcher, engine: FakeEngine) -> None:
    engine.gate.clear()
    held = batcher.submit([query()], FAR)
    await asyncio.to_thread(engine.entered.acquire)
    held += batcher.submit([query()] * 6, FAR)
    with pytest.raises(QueueFull) as refusal:
        batcher.submit([query()] * 3, FAR)
    assert refusal.value.retry_after_ms == 50
    assert batcher.queue_length == 6
    engine.gate.set()
    await asyncio.gather(*held)


async def test_a_deadline_is_looked_at_before_queueing_and_before_work(
    batcher: MicroBatcher, engine: FakeEngine, records: list[BatchRecord]
) -> None:
    with pytest.raises(DeadlinePassed):
        batcher.submit([query()], time.monotonic())
    engine.gate.clear()
    [first] = batcher.submit([query("first")], FAR)
    await asyncio.to_thread(engine.entered.acquire)
    deadline_s = time.monotonic() + 0.01
    [late] = batcher.submit([query("late")], deadline_s)
    [in_time] = batcher.submit([query("in time")], FAR)
    await asyncio.to_thread(_wait_until, deadline_s)
    engine.gate.set()
    await asyncio.gather(first, in_time)
    with pytest.raises(DeadlinePassed):
        await late
    assert [len(batch) for batch in engine.batches] == [1, 1]
    assert sum(record.late_count for record in records) == 1


async def test_a_cancelled_query_is_dropped_before_work(
    batcher: MicroBatcher, engine: FakeEngine, records: list[BatchRecord]
) -> None:
    engine.gate.clear()
    [first] = batcher.submit([query("first")], FAR)
    await asyncio.to_thread(engine.entered.acquire)
    gone, stays = batcher.submit([query("gone"), query("stays")], FAR)
    gone.cancel()
    engine.gate.set()
    await asyncio.gather(first, stays)
    assert [batch[0].shopper.user_id for batch in engine.batches] == ["first", "stays"]  # type: ignore[union-attr]
    assert sum(record.gone_count for record in records) == 1


async def test_a_caller_that_goes_during_the_work_harms_nobody(batcher: MicroBatcher, engine: FakeEngine) -> None:
    engine.gate.clear()
    goes, stays = batcher.submit([query(), query()], FAR)
    await asyncio.to_thread(engine.entered.acquire)
    goes.cancel()
    engine.gate.set()
    assert (await stays).answer.generation_id == "generation-1"


async def test_a_swap_takes_effect_between_two_batches(batcher: MicroBatcher, engine: FakeEngine) -> None:
    engine.gate.clear()
    [before] = batcher.submit([query()], FAR)
    await asyncio.to_thread(engine.entered.acquire)
    batcher.swap(FakeEngine("generation-2"))
    [after] = batcher.submit([query()], FAR)
    engine.gate.set()
    assert (await before).answer.generation_id == "generation-1"
    assert (await after).answer.generation_id == "generation-2"


async def test_one_bad_query_fails_alone(batcher: MicroBatcher, engine: FakeEngine) -> None:
    futures = batcher.submit([query("a"), query(POISON), query("b")], FAR)
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(result, RuntimeError) for result in results] == [False, True, False]


async def test_stopping_answers_what_waits_and_takes_no_more(batcher: MicroBatcher, engine: FakeEngine) -> None:
    engine.gate.clear()
    futures = batcher.submit([query()] * 6, FAR)
    await asyncio.to_thread(engine.entered.acquire)
    stopping = asyncio.ensure_future(batcher.stop())
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        batcher.submit([query()], FAR)
    engine.gate.set()
    await stopping
    assert all(future.done() and not future.exception() for future in futures)


async def test_without_an_engine_nothing_is_queued() -> None:
    batcher = MicroBatcher(queue_length_max=8, batch_size_max=4, retry_after_ms=50)
    with pytest.raises(NoGeneration):
        batcher.submit([query()], FAR)


def _wait_until(monotonic_s: float) -> None:
    while time.monotonic() < monotonic_s:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only there has a thread a niceness of its own")
async def test_the_engines_thread_gives_way_to_the_event_loop(batcher: MicroBatcher) -> None:
    [engine] = [thread.native_id for thread in threading.enumerate() if thread.name == "engine"]
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    await until(lambda: os.getpriority(os.PRIO_PROCESS, engine or 0) == max(own, ENGINE_NICENESS))
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


@pytest.mark.skipif(sys.platform != "linux", reason="only there has a thread a niceness of its own")
def test_a_thread_that_gives_way_already_keeps_its_niceness() -> None:
    found: list[int] = []

    def run() -> None:
        for niceness in (5, 2):
            give_way(niceness)
            found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [max(own, 5)] * 2
