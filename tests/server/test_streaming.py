"""StreamRecommend over a real connection."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from twinrank.v1 import recommendation_pb2 as pb

from tests.server.conftest import Running
from tests.server.fake_engine import POISON, SECRET
from tests.server.statuses import reason_of
from tests.server.stubs import raw_stream
from tests.server.waiting import until


def message(request_id: str, **fields: Any) -> pb.StreamRecommendRequest:
    return pb.StreamRecommendRequest(request=pb.RecommendRequest(request_id=request_id, **fields))


async def test_many_requests_are_answered_each_under_its_id(running: Running) -> None:
    stream = running.stub.StreamRecommend()
    for number in range(100):
        await stream.write(message(f"r-{number}", page_size=1 + number % 5))
    await stream.done_writing()
    sizes = {answer.response.request_id: len(answer.response.item_ids) async for answer in stream}
    assert sizes == {f"r-{number}": 1 + number % 5 for number in range(100)}
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_request_that_fails_at_once_overtakes_one_that_waits(running: Running) -> None:
    running.engine.gate.clear()
    stream = running.stub.StreamRecommend()
    await stream.write(message("waits"))
    await asyncio.to_thread(running.engine.entered.acquire)
    await stream.write(message("wrong", placement="nowhere"))
    first = await stream.read()
    running.engine.gate.set()
    second = await stream.read()
    assert (first.error.request_id, first.error.reason) == ("wrong", "INVALID_FIELD")
    assert second.response.request_id == "waits"


async def test_bytes_that_are_no_message_do_not_end_the_stream(running: Running) -> None:
    call = raw_stream(running.channel)
    await call.write(b"\x0a\xff\xff")
    answer = pb.StreamRecommendResponse.FromString(await call.read())
    assert (answer.error.code, answer.error.reason) == (code_pb2.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    await call.write(message("r").SerializeToString())
    assert pb.StreamRecommendResponse.FromString(await call.read()).response.request_id == "r"


async def test_a_fault_of_the_engine_leaks_nothing_and_does_not_end_the_stream(running: Running) -> None:
    stream = running.stub.StreamRecommend()
    await stream.write(message("r", user_id=POISON))
    answer = await stream.read()
    assert answer.error.code == code_pb2.INTERNAL
    assert SECRET not in str(answer)
    await stream.write(message("next"))
    assert (await stream.read()).response.request_id == "next"


async def test_a_full_stream_is_read_no_further(start: Any) -> None:
    running = await start(limits={"stream_in_flight_max": 3})
    running.engine.gate.clear()
    stream = running.stub.StreamRecommend()
    for number in range(10):
        await stream.write(message(f"r-{number}"))
    await asyncio.to_thread(running.engine.entered.acquire)
    await until(lambda: running.server.batcher.queue_length + len(running.engine.batches[0]) == 3)
    [open_stream] = running.server._streams._open
    await until(open_stream._room.locked)
    assert len(open_stream._pending) == 3
    running.engine.gate.set()
    await stream.done_writing()
    assert len([answer async for answer in stream]) == 10


async def test_streams_beyond_the_limit_are_refused(start: Any) -> None:
    running = await start(limits={"streams_max": 1})
    first = running.stub.StreamRecommend()
    await first.write(message("r"))
    await first.read()
    second = running.stub.StreamRecommend()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await second.read()
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await first.done_writing()
    assert await first.read() is grpc.aio.EOF
    await until(lambda: running.server._streams.admission.in_flight_count == 0)


async def test_a_caller_that_hangs_up_withdraws_its_requests(running: Running) -> None:
    engine = running.engine
    engine.gate.clear()
    stream = running.stub.StreamRecommend()
    await stream.write(message("held"))
    await asyncio.to_thread(engine.entered.acquire)
    await stream.write(message("gone", user_id="gone"))
    await until(lambda: running.server.batcher.queue_length == 1)
    stream.cancel()
    await until(lambda: running.server._streams.admission.in_flight_count == 0)
    engine.gate.set()
    await running.stub.Recommend(pb.RecommendRequest())
    assert not any(query.shopper.user_id == "gone" for batch in engine.batches for query in batch)  # type: ignore[union-attr]
    await until(lambda: not running.server._streams._readers)


async def test_a_draining_server_answers_what_it_read_and_sends_the_stream_away(running: Running) -> None:
    engine = running.engine
    engine.gate.clear()
    stream = running.stub.StreamRecommend()
    await stream.write(message("read"))
    await asyncio.to_thread(engine.entered.acquire)
    stopping = asyncio.ensure_future(running.server.stop())
    await until(lambda: running.server._stopping)
    engine.gate.set()
    assert (await stream.read()).response.request_id == "read"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stream.read()
    await stopping
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(failure.value) == "SHUTTING_DOWN"
