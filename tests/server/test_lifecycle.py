"""Going down without failing anybody: in this process, and as a real process under a real signal."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from twinrank.v1 import recommendation_pb2 as pb

from server.config import Front
from tests.server.conftest import Running
from tests.server.statuses import reason_of
from tests.server.stubs import health_stub, recommendation_stub
from tests.server.waiting import until

RETRYING = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "twinrank.v1.RecommendationService"}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.02s",
                    "maxBackoff": "0.2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


async def test_calls_in_flight_finish_and_watchers_are_let_go(running: Running) -> None:
    engine = running.engine
    watch = health_stub(running.channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    engine.gate.clear()
    in_flight = [asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest())) for _ in range(5)]
    await until(lambda: running.server._service.admission.in_flight_count == 5)
    stopping = asyncio.ensure_future(running.server.stop())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await watch.read() is aio.EOF
    assert not stopping.done()
    engine.gate.set()
    responses = await asyncio.gather(*in_flight)
    assert [len(response.item_ids) for response in responses] == [20] * 5
    await stopping


async def test_a_call_that_does_not_finish_within_the_grace_is_ended(start: Callable[..., Any]) -> None:
    running = await start(lifecycle={"stop_grace_s": 0.05})
    running.engine.gate.clear()
    call = asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest()))
    await asyncio.to_thread(running.engine.entered.acquire)
    stopping = asyncio.ensure_future(running.server.stop())
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    running.engine.gate.set()
    await stopping


async def test_a_call_that_comes_too_late_is_unavailable(running: Running) -> None:
    running.engine.gate.clear()
    in_flight = asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest()))
    await asyncio.to_thread(running.engine.entered.acquire)
    stopping = asyncio.ensure_future(running.server.stop())
    await until(lambda: running.server._stopping)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest())
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(failure.value) == "SHUTTING_DOWN"
    running.engine.gate.set()
    await in_flight
    await stopping


async def test_while_draining_requests_are_answered_and_health_says_not_serving(running: Running) -> None:
    running.server.begin_drain()
    health = health_stub(running.channel)
    for service in ("", "twinrank.v1.RecommendationService"):
        status = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert status.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert len((await running.stub.Recommend(pb.RecommendRequest())).item_ids) == 20


@asynccontextmanager
async def server_process(
    tmp_path: Path, root: Path, port: int, drain_s: float, front: Front = Front.GRPCIO
) -> AsyncIterator[Any]:
    """The server as its users start it, with the fake engine; ready when this enters."""
    config = tmp_path / "server.toml"
    config.write_text(
        f'[listen]\nfront = "{front}"\nport = {port}\nport_shared = true\n'
        f"[metrics]\nport = 0\n[admin]\nport = 0\n"
        f'[generations]\nroot = "{root}"\n[lifecycle]\ndrain_s = {drain_s}\n'
        '[store]\nmode = "off"\n'  # it would outlive a killed server
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.server.fake_server", "--config", str(config), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async for line in process.stderr:
            if json.loads(line)["event"] == "listening":
                break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("front", list(Front))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_under_load_fails_nothing_at_a_retrying_client(
    tmp_path: Path, root: Path, port: int, number: signal.Signals, front: Front
) -> None:
    failures: list[BaseException] = []
    answered_count = 0
    done = False

    async def ask_on_and_on(stub: Any) -> None:
        nonlocal answered_count
        while not done:
            try:
                await stub.Recommend(pb.RecommendRequest(), timeout=10)
                answered_count += 1
            except grpc.aio.AioRpcError as error:
                failures.append(error)

    options = [("grpc.service_config", RETRYING), ("grpc.initial_reconnect_backoff_ms", 20)]
    async with (
        server_process(tmp_path, root, port, 0.1, front) as old,
        aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        stub = recommendation_stub(channel)
        callers = [asyncio.ensure_future(ask_on_and_on(stub)) for _ in range(16)]
        await until(lambda: answered_count > 100)
        async with server_process(tmp_path, root, port, 0.1, front):
            old.send_signal(number)
            assert await asyncio.wait_for(old.wait(), 10) == 0
            before = answered_count
            await until(lambda: answered_count > before + 100)
            done = True
            await asyncio.gather(*callers)
    assert failures == []


async def test_a_second_signal_skips_the_wait(tmp_path: Path, root: Path, port: int) -> None:
    async with server_process(tmp_path, root, port, drain_s=600) as process:
        process.send_signal(signal.SIGTERM)
        async for line in process.stderr:
            if json.loads(line)["event"] == "draining":
                break
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
