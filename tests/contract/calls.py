"""Calls under way, and what the server makes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from twinrank.v1 import recommendation_pb2 as pb

from tests.server.conftest import Running
from tests.server.fake_engine import FakeEngine


def ask(running: Running, user_id: str = "u", **options: Any) -> asyncio.Future[Any]:
    """A Recommend call under way."""
    call = running.stub.Recommend(pb.RecommendRequest(user_id=user_id), **options)
    future: asyncio.Future[Any] = asyncio.ensure_future(call)
    return future


async def hold_engine(running: Running, timeout: float | None = 10.0) -> asyncio.Future[Any]:
    """A call that the engine holds until its gate opens; what comes now has to wait. `timeout` is in seconds."""
    running.engine.gate.clear()
    held = ask(running, "held", timeout=timeout)
    await asyncio.to_thread(running.engine.entered.acquire)
    return held


def users_asked(engine: FakeEngine) -> list[list[str]]:
    return [[query.shopper.user_id for query in batch] for batch in engine.batches]  # type: ignore[union-attr]


def in_flight(running: Running) -> int:
    return running.server._service.admission.in_flight_count


def counted(running: Running, code: str, method: str = "Recommend") -> int:
    labels = {"method": method, "code": code}
    return int(running.server.metrics.registry.get_sample_value("twinrank_requests_total", labels) or 0)


async def failure_of(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value
