"""EventService, over each front, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2
from twinrank.v1 import events_pb2 as pb
from twinrank_client import AsyncClient, Event

from index.generation import set_current
from server.config import Front
from server.events.log import read_log
from server.state.keys import user_key
from server.state.packed import item_hash, type_hash, unpack
from server.state.token import read_token
from tests.contract.calls import counted, failure_of
from tests.server.conftest import Running, make_config, publish, serve
from tests.server.statuses import details_of, fields_of, reason_of
from tests.server.statuses import unpack as detail
from tests.server.store_process import StoreProcess
from tests.server.stubs import event_stub, reflection_stub
from tests.server.waiting import until

FOREVER_MS = 2**50
Start = Callable[..., Any]


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    process = StoreProcess()
    yield process.start()
    process.close()


@pytest.fixture(params=[front.value for front in Front])
async def start_with(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a server with this front and a store, with sections of the configuration replaced."""
    root = tmp_path / "generations"
    set_current(root, publish(root))
    async with AsyncExitStack() as stack:

        async def start_one(store: StoreProcess | None, **sections: dict[str, Any]) -> Running:
            config = make_config(root, listen={"front": request.param}, **sections)
            address = store.address if store is not None else None
            return await stack.enter_async_context(serve(config, store=address))

        yield start_one


@pytest.fixture
async def running(start_with: Start, store: StoreProcess) -> Running:
    server: Running = await start_with(store)
    return server


def event(**fields: Any) -> pb.Event:
    return pb.Event(**{"event_type": "purchase", "user_id": "u", "item_id": "i", **fields})


def message(number: int, *events: pb.Event) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(sequence_number=number, events=events)


async def test_a_written_event_is_in_the_state_that_the_answer_will_read(running: Running, store: StoreProcess) -> None:
    answer = await running.events.WriteEvents(pb.WriteEventsRequest(request_id="r", events=[event(quantity=3)]))
    states = unpack([store.client.get(user_key("u"))])
    [record] = states.events
    assert (record["item_hash"], record["type_hash"], record["quantity"]) == (item_hash("i"), type_hash("purchase"), 3)
    assert (answer.request_id, answer.written_count, answer.duplicate_count) == ("r", 1, 0)
    assert read_token(answer.position_token) == states.last_ms[0] == record["position_ms"]
    assert counted(running, "OK", "WriteEvents") == 1


async def test_a_repetition_is_counted_as_duplicates(running: Running) -> None:
    request = pb.WriteEventsRequest(events=[event(event_id="a"), event(event_id="b")])
    first, again = await running.events.WriteEvents(request), await running.events.WriteEvents(request)
    assert (first.written_count, again.written_count, again.duplicate_count) == (2, 0, 2)
    sample = running.server.metrics.registry.get_sample_value
    assert [sample("twinrank_events_total", {"result": result}) for result in ("written", "duplicate")] == [2, 2]
    assert again.position_token == first.position_token


async def test_one_wrong_event_refuses_all_and_is_named(running: Running, store: StoreProcess) -> None:
    error = await failure_of(
        running.events.WriteEvents(pb.WriteEventsRequest(events=[event(), event(item_id="", quantity=-2)]))
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(error) == ["events[1].item_id", "events[1].quantity"]
    assert store.client.dbsize() == 0
    assert counted(running, "INVALID_ARGUMENT", "WriteEvents") == 1


async def test_without_a_store_events_are_refused(start_with: Start) -> None:
    running = await start_with(None)
    error = await failure_of(running.events.WriteEvents(pb.WriteEventsRequest(events=[event()])))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "STORE_OFF")
    stream = running.events.StreamEvents()
    error = await failure_of(stream.read())
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_store_that_is_down_asks_for_patience_and_is_used_again(running: Running, store: StoreProcess) -> None:
    request = pb.WriteEventsRequest(events=[event(event_id="a")])
    await running.events.WriteEvents(request)
    await asyncio.to_thread(store.stop)
    error = await failure_of(running.events.WriteEvents(request))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "STORE_DOWN")
    assert detail(details_of(error), error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1_000
    await asyncio.to_thread(store.start)
    assert (await running.events.WriteEvents(pb.WriteEventsRequest(events=[event(event_id="b")]))).written_count == 1


async def test_a_full_store_refuses_and_never_acknowledges(running: Running, store: StoreProcess) -> None:
    store.client.config_set("maxmemory", "1mb")
    error = await failure_of(running.events.WriteEvents(pb.WriteEventsRequest(events=[event()])))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
    assert store.client.dbsize() == 0


async def test_a_stream_acknowledges_each_message_in_order(running: Running, store: StoreProcess) -> None:
    messages = [
        message(number, *(event(event_id=f"{number}-{place}") for place in range(5))) for number in range(1, 41)
    ]
    answers = [answer async for answer in running.events.StreamEvents(iter(messages))]
    assert [answer.sequence_number for answer in answers] == list(range(1, 41))
    assert all(answer.written_count == 5 and not answer.HasField("error") for answer in answers)
    assert len(list(read_log(store.client, 0, FOREVER_MS))) == 200
    assert counted(running, "OK", "StreamEvents") == 40


async def test_a_wrong_message_is_answered_and_the_stream_goes_on(running: Running) -> None:
    stream = running.events.StreamEvents(
        iter([message(1, event(item_id="")), message(1, event()), message(2, event()), message(2, event())])
    )
    answers = [answer async for answer in stream]
    assert [answer.error.code for answer in answers] == [3, 3, 0, 3]
    assert list(answers[0].error.fields) == ["events[0].item_id"]
    assert answers[0].error.reason == "INVALID_FIELD"
    assert [list(answer.error.fields) for answer in answers[1::2]] == [["sequence_number"]] * 2
    assert answers[2].written_count == 1


async def test_bytes_that_are_no_message_are_answered_on_the_stream(running: Running) -> None:
    stream = running.channel.stream_stream("/twinrank.v1.EventService/StreamEvents")()
    await stream.write(b"\xff\xff\xff")
    answer = pb.StreamEventsResponse.FromString(await stream.read())
    assert (answer.error.reason, answer.sequence_number) == ("MALFORMED_MESSAGE", 0)
    stream.cancel()


async def test_a_stream_beyond_the_limit_is_refused(start_with: Start, store: StoreProcess) -> None:
    running = await start_with(store, events={"streams_max": 1})
    first = running.events.StreamEvents()
    await first.write(message(1, event()))
    assert (await first.read()).sequence_number == 1
    second = running.events.StreamEvents()
    error = await failure_of(second.read())
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_IN_FLIGHT")
    await first.done_writing()
    assert await first.read() is grpc.aio.EOF


async def test_draining_acknowledges_what_was_received_and_ends_the_stream(
    running: Running, store: StoreProcess
) -> None:
    stream = running.events.StreamEvents()
    store.client.client_pause(300)  # so that the message is still on its way when the server drains
    await stream.write(message(1, event(event_id="a")))
    await until(lambda: running.server._writer is not None and any(running.server._event_streams._open))
    open_streams = running.server._event_streams._open
    await until(lambda: any(one._in_flight for one in open_streams))
    stopping = asyncio.create_task(running.server.stop())
    answer = await stream.read()
    assert (answer.sequence_number, answer.written_count) == (1, 1)
    error = await failure_of(stream.read())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await stopping
    assert len(list(read_log(store.client, 0, FOREVER_MS))) == 1


async def test_purging_is_for_the_admin_listener(running: Running) -> None:
    request = pb.PurgeUserRequest(user_id="u")
    error = await failure_of(running.events.PurgeUser(request))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "admin listener" in error.details()
    admin = event_stub(running.admin_channel)
    error = await failure_of(admin.PurgeUser(request))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_reflection_lists_the_service(running: Running) -> None:
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    answers = [answer async for answer in reflection_stub(running.channel).ServerReflectionInfo(iter(requests))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert "twinrank.v1.EventService" in names


async def test_the_sdks_stream_outlives_a_server_that_is_replaced(
    start_with: Start, store: StoreProcess, tmp_path: Path
) -> None:
    first = await start_with(store)
    port = first.server.port
    async with AsyncClient(f"127.0.0.1:{port}") as client, client.event_stream() as stream:
        receipts = [await stream.send([Event(event_type="view", user_id="u", item_id="1")])]
        await receipts[0]
        await first.server.stop()
        receipts += [await stream.send([Event(event_type="view", user_id="u", item_id="2")])]
        config = make_config(tmp_path / "generations", listen={"port": port})
        async with serve(config, store=store.address):
            written = [await receipt for receipt in receipts]
    assert [receipt.written_count for receipt in written] == [1, 1]
    assert [logged.item_id for logged in read_log(store.client, 0, FOREVER_MS)] == ["1", "2"]
