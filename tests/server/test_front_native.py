"""What only the front on pygrpc-native does: a burst at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from twinrank.v1 import recommendation_pb2 as pb

from tests.contract.calls import ask, counted, failure_of, hold_engine, in_flight
from tests.server.waiting import until


async def test_a_burst_that_cannot_be_read_fails_at_once_and_the_next_one_is_answered(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(listen={"port": 0, "front": "native"})
    with monkeypatch.context() as broken:
        broken.setattr(running.server._service, "plain", lambda _: 1 / 0)
        error = await failure_of(running.stub.Recommend(pb.RecommendRequest(), timeout=5))
        assert error.code() is grpc.StatusCode.INTERNAL
    assert len((await running.stub.Recommend(pb.RecommendRequest())).item_ids) == 20
    assert in_flight(running) == 0


async def test_of_a_burst_as_many_are_admitted_as_there_are_permits(start: Callable[..., Any]) -> None:
    running = await start(
        listen={"port": 0, "front": "native"}, limits={"concurrent_rpcs_max": 5}, batching={"batch_size_max": 64}
    )
    held = await hold_engine(running)
    burst = [ask(running, f"u{place}", timeout=10.0) for place in range(12)]
    await until(lambda: counted(running, "RESOURCE_EXHAUSTED") == 8)
    assert in_flight(running) == 5
    running.engine.gate.set()
    assert len((await held).item_ids) == 20
    answers = await asyncio.gather(*burst, return_exceptions=True)
    assert sum(isinstance(answer, pb.RecommendResponse) for answer in answers) == 4
    await until(lambda: in_flight(running) == 0)
