"""Events through both clients, over real loopback: calls, streams, and streams whose server goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from twinrank_client import (
    AsyncClient,
    Client,
    Event,
    InvalidRequest,
    RecommendRequest,
    Unavailable,
    WriteReceipt,
)
from twinrank_client.testing import FakeServer

FULL = Event(
    event_type="rate",
    user_id="user",
    visitor_id="visitor",
    session_id="session",
    item_id="milk",
    time=datetime(2017, 12, 1, 12, 30, 0, 250_000, tzinfo=UTC),
    quantity=2.5,
    value=-0.1,
    rating=0.0,
    position=0,
    dwell_s=1.5,
    context={"device": "phone"},
    attribution_token="token",
    query="oat milk",
    event_id="id",
)
Send = Callable[..., Awaitable[Callable[[], Awaitable[WriteReceipt]]]]
Streams = Callable[..., AbstractAsyncContextManager[Send]]


def views(*item_ids: str, **fields: Any) -> list[Event]:
    return [Event(event_type="view", user_id="u", item_id=item_id, **fields) for item_id in item_ids]


@pytest.fixture(params=["blocking", "asyncio"])
def stream_to(request: pytest.FixtureRequest) -> Streams:
    """Opens an event stream of either client: `send` gives a function that awaits the receipt."""

    @asynccontextmanager
    async def blocking(target: str, **options: Any) -> AsyncIterator[Send]:
        client = Client(target)
        stream = client.event_stream(**options)

        async def send(events: list[Event]) -> Callable[[], Awaitable[WriteReceipt]]:
            future = await asyncio.to_thread(stream.send, events)
            return lambda: asyncio.wrap_future(future)

        try:
            yield send
        finally:
            await asyncio.to_thread(stream.close)
            client.close()

    @asynccontextmanager
    async def asynchronous(target: str, **options: Any) -> AsyncIterator[Send]:
        async with AsyncClient(target) as client, client.event_stream(**options) as stream:

            async def send(events: list[Event]) -> Callable[[], Awaitable[WriteReceipt]]:
                future = await stream.send(events)

                async def result() -> WriteReceipt:
                    return await future

                return result

            yield send

    return blocking if request.param == "blocking" else asynchronous


def test_every_field_of_an_event_arrives(twinrank_server: FakeServer) -> None:
    with Client(twinrank_server.target) as client:
        receipt = client.write_events([FULL])
    assert twinrank_server.events == [FULL]
    assert (receipt.written_count, receipt.duplicate_count) == (1, 0)
    assert receipt.position_token


async def test_the_same_over_asyncio(twinrank_server: FakeServer) -> None:
    async with AsyncClient(twinrank_server.target) as client:
        receipt = await client.write_events([FULL, FULL])
    assert twinrank_server.events == [FULL]
    assert (receipt.written_count, receipt.duplicate_count) == (1, 1)


def test_an_event_without_an_id_gets_one(twinrank_server: FakeServer) -> None:
    with Client(twinrank_server.target) as client:
        client.write_events(views("milk", "milk"))
    first, second = twinrank_server.events
    assert len({first.event_id, second.event_id} - {""}) == 2


def test_a_write_that_failed_for_a_moment_is_repeated(twinrank_server: FakeServer) -> None:
    twinrank_server.fail(grpc.StatusCode.UNAVAILABLE, rpc="WriteEvents", times=2)
    with Client(twinrank_server.target) as client:
        assert client.write_events(views("milk")).written_count == 1


def test_the_position_token_goes_into_the_next_request(twinrank_server: FakeServer) -> None:
    with Client(twinrank_server.target) as client:
        token = client.write_events(views("milk")).position_token
        client.recommend(RecommendRequest(user_id="u", position_token=token))
    [request] = twinrank_server.requests
    assert isinstance(request, RecommendRequest)
    assert request.position_token == token


def test_a_naive_time_and_an_id_that_is_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Event(event_type="view", time=datetime(2017, 12, 1))
    with pytest.raises(TypeError, match="item_id must be a str, not int: 7"):
        Event(event_type="view", item_id=7)  # type: ignore[arg-type]


async def test_a_stream_gives_a_receipt_for_each_message(stream_to: Streams, twinrank_server: FakeServer) -> None:
    async with stream_to(twinrank_server.target) as send:
        results = [await send(views(*(f"{place}" for place in range(size)))) for size in (1, 2, 3)]
        receipts = [await result() for result in results]
    assert [receipt.written_count for receipt in receipts] == [1, 2, 3]
    assert [event.item_id for event in twinrank_server.events] == ["0", "0", "1", "0", "1", "2"]


async def test_closing_waits_for_what_was_sent(stream_to: Streams, twinrank_server: FakeServer) -> None:
    twinrank_server.delay(0.02)
    async with stream_to(twinrank_server.target) as send:
        for _ in range(5):
            await send(views("milk"))
    assert len(twinrank_server.events) == 5


async def test_a_refused_message_fails_alone(stream_to: Streams, twinrank_server: FakeServer) -> None:
    twinrank_server.fail(
        grpc.StatusCode.INVALID_ARGUMENT, "events[0].item_id: must not be empty", fields={"events[0].item_id": "x"},
        rpc="StreamEvents", times=1,
    )  # fmt: skip
    async with stream_to(twinrank_server.target) as send:
        wrong, right = await send(views("")), await send(views("milk"))
        with pytest.raises(InvalidRequest) as failure:
            await wrong()
        assert (await right()).written_count == 1
    assert list(failure.value.fields) == ["events[0].item_id"]


async def test_what_the_server_could_not_write_now_is_sent_again_and_counts_once(
    stream_to: Streams, twinrank_server: FakeServer
) -> None:
    twinrank_server.fail(grpc.StatusCode.UNAVAILABLE, reason="STORE_DOWN", rpc="StreamEvents", times=3)
    async with stream_to(twinrank_server.target) as send:
        results = [await send(views(str(place))) for place in range(10)]
        receipts = [await result() for result in results]
    assert all(receipt.written_count + receipt.duplicate_count == 1 for receipt in receipts)
    assert sorted(event.item_id for event in twinrank_server.events) == [str(place) for place in range(10)]


async def test_too_many_messages_in_flight_make_the_caller_wait(
    stream_to: Streams, twinrank_server: FakeServer
) -> None:
    twinrank_server.delay(0.01)
    async with stream_to(twinrank_server.target, in_flight_max=1) as send:
        first = await send(views("milk"))
        second = await send(views("bread"))
        assert (await asyncio.wait_for(first(), 5)).written_count == 1
        assert (await second()).written_count == 1


async def test_without_any_server_the_stream_gives_up(stream_to: Streams) -> None:
    with FakeServer() as gone:
        target = gone.target
    async with stream_to(target, patience_s=0.2) as send:
        result = await send(views("milk"))
        with pytest.raises(Unavailable):
            await result()
        with pytest.raises(Unavailable):
            await send(views("bread"))
