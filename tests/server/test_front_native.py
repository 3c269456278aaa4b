"""What only the front on pygrpc-native does: a burst at a time, and the event loop's relief."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from pygrpc_native import EVENT_CALL, EVENT_CANCEL
from twinrank.v1 import recommendation_pb2 as pb

from server.front_native import NativeFront
from tests.contract.calls import ask, counted, failure_of, hold_engine, in_flight
from tests.server.conftest import Running
from tests.server.waiting import until

Start = Callable[..., Any]
NATIVE = {"port": 0, "front": "native"}


def front_of(running: Running) -> NativeFront:
    front = running.server._public
    assert isinstance(front, NativeFront)
    return front


async def test_what_cannot_be_read_at_once_is_read_one_by_one(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start(listen=NATIVE)
    monkeypatch.setattr(running.server._service.decoder(), "plain", lambda *_: 1 / 0)
    answers = await asyncio.gather(*(ask(running, f"u{place}", timeout=5.0) for place in range(8)))
    assert [len(answer.item_ids) for answer in answers] == [20] * 8
    assert in_flight(running) == 0


async def test_of_a_burst_as_many_are_admitted_as_there_are_permits(start: Start) -> None:
    running = await start(listen=NATIVE, limits={"concurrent_rpcs_max": 5}, batching={"batch_size_max": 64})
    held = await hold_engine(running)
    burst = [ask(running, f"u{place}", timeout=10.0) for place in range(12)]
    await until(lambda: counted(running, "RESOURCE_EXHAUSTED") == 8)
    assert in_flight(running) == 5
    running.engine.gate.set()
    assert len((await held).item_ids) == 20
    answers = await asyncio.gather(*burst, return_exceptions=True)
    assert sum(isinstance(answer, pb.RecommendResponse) for answer in answers) == 4
    await until(lambda: in_flight(running) == 0)


async def test_a_permit_that_comes_back_with_a_burst_is_for_a_call_of_that_burst(start: Start) -> None:
    running = await start(listen=NATIVE, limits={"concurrent_rpcs_max": 1})
    held = await hold_engine(running)
    front = front_of(running)
    [held_id] = front._in_flight._calls
    raw, details = pb.RecommendRequest(user_id="next").SerializeToString(), ((), "peer", 5.0)
    ended, begun = (EVENT_CANCEL, held_id, 0, None, None, None), (EVENT_CALL, 10**9, 0, raw, None, details)
    with front._receiving:
        front._take([ended, begun], time.monotonic())
    assert counted(running, "RESOURCE_EXHAUSTED") == 0
    assert 10**9 in front._in_flight
    held.cancel()
    running.engine.gate.set()
    await until(lambda: in_flight(running) == 0)


async def test_a_call_that_the_relief_queued_as_the_batch_ended_is_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front's thread must not begin to wait for events while the relief is about to queue what it received."""
    running = await start(listen=NATIVE)
    service, relieving = running.server._service, threading.Event()
    plain, loop_thread = service.plain, threading.current_thread()

    def slow_on_the_loop(raws: Any) -> Any:
        if threading.current_thread() is loop_thread and raws:
            relieving.set()
            running.engine.gate.set()
            time.sleep(0.3)
        return plain(raws)

    monkeypatch.setattr(service, "plain", slow_on_the_loop)
    held = await hold_engine(running)
    response = await ask(running, "late", timeout=3.0)
    assert relieving.is_set()
    assert len(response.item_ids) == 20
    assert len((await held).item_ids) == 20


async def test_what_the_relief_cannot_read_at_once_is_read_one_by_one(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(listen=NATIVE)
    monkeypatch.setattr(running.server._service.decoder(), "plain", lambda *_: 1 / 0)
    held = await hold_engine(running)
    late = ask(running, "late", timeout=5.0)
    await until(lambda: in_flight(running) == 2)
    running.engine.gate.set()
    assert len((await late).item_ids) == 20
    assert len((await held).item_ids) == 20


async def test_a_wrong_request_of_a_burst_fails_alone(start: Start) -> None:
    running = await start(listen=NATIVE)
    held = await hold_engine(running)
    good, wrong = ask(running, "good", timeout=5.0), running.stub.Recommend(pb.RecommendRequest(placement="nowhere"))
    error = await failure_of(wrong)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    running.engine.gate.set()
    assert len((await good).item_ids) == 20
    assert len((await held).item_ids) == 20
