"""The standard services, as standard clients use them."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from index.generation import set_current
from tests.server.conftest import Running, make_config, publish, serve
from tests.server.stubs import health_stub, reflection_stub

SERVICE = "twinrank.v1.RecommendationService"


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_each_service_name_is_serving(running: Running, service: str) -> None:
    health = health_stub(running.channel)
    response = await health.Check(health_pb2.HealthCheckRequest(service=service))
    assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_an_unknown_service_is_not_found(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await health_stub(running.channel).Check(health_pb2.HealthCheckRequest(service="nope"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_follows_the_first_generation(tmp_path: Path) -> None:
    async with serve(make_config(tmp_path / "generations")) as running:
        watch = health_stub(running.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        set_current(running.root, publish(running.root))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_and_describes_the_services(running: Running) -> None:
    stub = reflection_stub(running.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    names = {service.name for service in listed.list_services_response.service}
    own = {SERVICE, "twinrank.v1.EventService"}
    assert names == own | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert described.file_descriptor_response.file_descriptor_proto
