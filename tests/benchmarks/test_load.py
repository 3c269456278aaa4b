"""The load: what it counts is what the server answered, however the server answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio
from twinrank.v1 import recommendation_pb2 as pb

from tests.benchmarks.load import Counted, GrpcBatch, GrpcStream, GrpcUnary, Transport, closed_loop, messages, open_loop

SERVICE = "twinrank.v1.RecommendationService"
REQUESTS = messages([f"u{row}" for row in range(64)], 1.7e9)


class Shop:
    """A server on loopback that answers everybody but those whose user id it is told to refuse."""

    def __init__(self) -> None:
        self.answered = 0
        self.users: set[str] = set()
        self.refused: set[str] = set()
        self.delay_s = 0.0
        self.stream_messages_max = 1_000_000

    async def recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        self.users.add(request.user_id)
        await asyncio.sleep(self.delay_s)
        if request.user_id in self.refused:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        self.answered += 1
        return pb.RecommendResponse(request_id=request.request_id, item_ids=["a" * 100] * 20)

    async def batch(self, request: pb.BatchRecommendRequest, context: Any) -> pb.BatchRecommendResponse:
        assert len(request.requests) == 32
        self.answered += 1
        return pb.BatchRecommendResponse(responses=[pb.RecommendResponse(item_ids=["a"])] * 32)

    async def stream(self, requests: AsyncIterator[pb.StreamRecommendRequest], context: Any) -> AsyncIterator[Any]:
        left = self.stream_messages_max
        async for message in requests:
            left -= 1
            if left == 0:
                return
            self.answered += 1
            answer = pb.RecommendResponse(request_id=message.request.request_id, item_ids=["a" * 100] * 20)
            yield pb.StreamRecommendResponse(response=answer)


@pytest.fixture
async def shop() -> AsyncIterator[tuple[Shop, str]]:
    shop, server = Shop(), aio.server()
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    handlers: dict[str, Any] = {
        "Recommend": unary(shop.recommend, pb.RecommendRequest.FromString, pb.RecommendResponse.SerializeToString),
        "BatchRecommend": unary(
            shop.batch, pb.BatchRecommendRequest.FromString, pb.BatchRecommendResponse.SerializeToString
        ),
        "StreamRecommend": stream(
            shop.stream, pb.StreamRecommendRequest.FromString, pb.StreamRecommendResponse.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield shop, f"127.0.0.1:{port}"
    await server.stop(0)


def unary() -> GrpcUnary:
    return GrpcUnary([request.SerializeToString() for request in REQUESTS])


@pytest.mark.parametrize(
    "transport", [unary(), GrpcStream(REQUESTS), GrpcBatch(REQUESTS)], ids=lambda t: type(t).__name__
)
async def test_both_loops_count_what_the_server_counts(shop: tuple[Shop, str], transport: Transport) -> None:
    server, target = shop
    counted = Counted()
    await transport.open(target)
    rate = await closed_loop(transport, 0.3, counted)
    latencies = await open_loop(transport, rate / 2, 0.3, counted)
    await transport.close()
    assert counted.failed == 0
    assert counted.calls == server.answered > 10
    assert counted.requests == counted.calls * transport.requests_per_unit
    assert 0 < latencies.p50_ms <= latencies.p99_ms


async def test_every_body_is_sent(shop: tuple[Shop, str]) -> None:
    server, target = shop
    transport = unary()
    await transport.open(target)
    await closed_loop(transport, 0.3, Counted())
    await transport.close()
    assert server.users == {request.user_id for request in REQUESTS}


async def test_a_call_that_ends_with_another_status_is_a_failure(shop: tuple[Shop, str]) -> None:
    server, target = shop
    server.refused = {"u3", "u40"}
    transport, counted = unary(), Counted()
    await transport.open(target)
    await closed_loop(transport, 0.3, counted)
    assert not await transport.send(3)
    assert await transport.send(4)
    await transport.close()
    assert counted.failed > 0
    assert counted.calls - counted.failed + 1 == server.answered


async def test_an_open_loop_is_not_slowed_by_a_slow_server(shop: tuple[Shop, str]) -> None:
    server, target = shop
    server.delay_s = 0.2
    transport, counted = unary(), Counted()
    await transport.open(target)
    latencies = await open_loop(transport, 300, 0.5, counted)
    await transport.close()
    assert counted.calls == pytest.approx(300 * 0.8, rel=0.25)  # a closed loop of 32 would send 128 in that time
    assert 200 <= latencies.p50_ms < 400


async def test_a_server_that_goes_away_fails_its_calls(shop: tuple[Shop, str]) -> None:
    server, target = shop
    server.delay_s = 60.0
    transport = unary()
    await transport.open(target)
    asked = asyncio.create_task(transport.send(0))
    while not server.users:
        await asyncio.sleep(0.001)
    for connection in transport._connections:
        connection.close()
    assert not await asked
    assert not await transport.send(1)


async def test_a_stream_that_the_server_ends_fails_what_is_under_way(shop: tuple[Shop, str]) -> None:
    server, target = shop
    server.stream_messages_max = 40
    transport, counted = GrpcStream(REQUESTS), Counted()
    await transport.open(target)
    await closed_loop(transport, 0.3, counted)
    await transport.close()
    assert counted.failed > 0
    assert counted.calls - counted.failed <= server.answered
