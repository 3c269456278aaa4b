"""Both fronts beside the unary calls: health, reflection and streams, and the same way to stop."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from twinrank.v1 import recommendation_pb2 as pb

from tests.contract.calls import ask, failure_of, hold_engine, in_flight
from tests.contract.conftest import Start
from tests.server.conftest import Running
from tests.server.statuses import reason_of
from tests.server.stubs import health_stub, reflection_stub
from tests.server.waiting import until

SERVICE = "twinrank.v1.RecommendationService"


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_says_serving(running: Running, service: str) -> None:
    response = await health_stub(running.channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services(running: Running) -> None:
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    [listed] = [answer async for answer in reflection_stub(running.channel).ServerReflectionInfo(iter(requests))]
    names = {service.name for service in listed.list_services_response.service}
    ours = {SERVICE, "twinrank.v1.EventService"}
    assert names == {*ours, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_a_stream_beside_unary_calls(running: Running) -> None:
    stream = running.stub.StreamRecommend()
    for number in range(20):
        request = pb.RecommendRequest(request_id=f"r-{number}", page_size=1 + number % 3)
        await stream.write(pb.StreamRecommendRequest(request=request))
    answers = [ask(running) for _ in range(20)]
    await stream.done_writing()
    sizes = {answer.response.request_id: len(answer.response.item_ids) async for answer in stream}
    assert sizes == {f"r-{number}": 1 + number % 3 for number in range(20)}
    assert [len((await answer).item_ids) for answer in answers] == [20] * 20
    assert running.server.metrics.answered_count == 40


async def test_while_draining_calls_are_answered_and_health_says_not_serving(running: Running) -> None:
    running.server.begin_drain()
    health = await health_stub(running.channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert len((await ask(running)).item_ids) == 20


async def test_stopping_finishes_what_is_in_flight_and_lets_watchers_go(running: Running) -> None:
    watch = health_stub(running.channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    held = await hold_engine(running)
    waiting = [ask(running) for _ in range(5)]
    await until(lambda: in_flight(running) == 6)
    stopping = asyncio.ensure_future(running.server.stop())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await watch.read() is aio.EOF
    assert not stopping.done()
    running.engine.gate.set()
    responses = await asyncio.gather(held, *waiting)
    assert [len(response.item_ids) for response in responses] == [20] * 6
    await stopping


async def test_a_call_that_comes_too_late_is_unavailable(running: Running) -> None:
    held = await hold_engine(running)
    stopping = asyncio.ensure_future(running.server.stop())
    await until(lambda: running.server._stopping)
    error = await failure_of(ask(running))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "SHUTTING_DOWN"
    running.engine.gate.set()
    await held
    await stopping


async def test_a_call_that_does_not_finish_within_the_grace_is_ended(start: Start) -> None:
    running = await start(lifecycle={"stop_grace_s": 0.05})
    held = await hold_engine(running)
    stopping = asyncio.ensure_future(running.server.stop())
    assert (await failure_of(held)).code() is grpc.StatusCode.UNAVAILABLE
    running.engine.gate.set()
    await stopping


async def test_no_thread_of_the_server_outlives_it(start: Start) -> None:
    before = set(threading.enumerate())
    running = await start()
    await ask(running)
    await running.server.stop()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not left & {"engine", "front", "metrics"}


async def test_a_taken_port_is_an_error(running: Running, start: Start) -> None:
    with pytest.raises((RuntimeError, OSError)):
        await start(listen={"port": running.server.port})
