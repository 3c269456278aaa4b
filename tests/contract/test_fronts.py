"""Both fronts keep one contract: the same answers, statuses, details, limits, deadlines."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from twinrank.v1 import recommendation_pb2 as pb

from index.generation import set_current
from server.config import LogsConfig
from server.logs import configure_logs
from tests.contract.calls import ask, counted, failure_of, hold_engine, in_flight, users_asked
from tests.contract.conftest import Start
from tests.server.conftest import Running, publish
from tests.server.fake_engine import ITEM_IDS, POISON, SCORES, SECRET
from tests.server.statuses import details_of, fields_of, reason_of, unpack
from tests.server.stubs import raw_unary
from tests.server.waiting import until

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_list(running: Running) -> None:
    response = await running.stub.Recommend(pb.RecommendRequest(request_id="r-1", user_id="u", page_size=3))
    assert list(response.item_ids) == ITEM_IDS[:3]
    assert list(response.scores) == pytest.approx(SCORES[:3])
    assert (response.request_id, response.generation_id) == ("r-1", running.engine.generation_id)
    assert counted(running, "OK") == running.server.metrics.answered_count == 1


async def test_a_batch_comes_back_in_its_order(running: Running) -> None:
    requests = [pb.RecommendRequest(request_id=f"r-{size}", page_size=size) for size in range(1, 65)]
    response = await running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests))
    assert [(entry.request_id, len(entry.item_ids)) for entry in response.responses] == [
        (f"r-{size}", size) for size in range(1, 65)
    ]
    assert in_flight(running) == 0


async def test_a_batch_fails_as_a_whole_and_once(running: Running) -> None:
    requests = [pb.RecommendRequest(user_id=user) for user in ("a", POISON, POISON, "b")]
    error = await failure_of(running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert counted(running, "INTERNAL", "BatchRecommend") == 1
    assert in_flight(running) == 0


async def test_scores_and_similar_items(running: Running) -> None:
    scores = await running.stub.Score(pb.ScoreRequest(item_ids=["item-1", "nope"]))
    assert (list(scores.scores), list(scores.known)) == ([0.5, 0.0], [True, False])
    similar = await running.stub.SimilarItems(pb.SimilarItemsRequest(item_id="item-1", page_size=2))
    assert list(similar.item_ids) == ITEM_IDS[:2]


async def test_an_unknown_item_is_not_found(running: Running) -> None:
    error = await failure_of(running.stub.SimilarItems(pb.SimilarItemsRequest(item_id="nope", request_id="r-9")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    info = unpack(details_of(error), error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == ("ITEM_NOT_FOUND", "twinrank", {"request_id": "r-9"})


async def test_violations_name_their_fields(running: Running) -> None:
    request = pb.RecommendRequest(placement="nowhere")
    request.recent_events.add()
    error = await failure_of(running.stub.Recommend(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(error) == ["placement", "recent_events[0].item_id"]
    assert running.engine.batches == []
    assert in_flight(running) == 0


async def test_bytes_that_are_no_message_are_invalid(running: Running) -> None:
    for method in ("Recommend", "BatchRecommend", "Score", "SimilarItems"):
        error = await failure_of(raw_unary(running.channel, method)(b"\x0a\xff\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(error) == "MALFORMED_MESSAGE"


async def test_a_fault_tells_the_caller_nothing_but_an_id(running: Running) -> None:
    error = await failure_of(running.stub.Recommend(pb.RecommendRequest(request_id="quote-me", user_id=POISON)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error; request_id quote-me"
    assert SECRET not in str(details_of(error))


async def test_a_method_that_does_not_exist_is_unimplemented(running: Running) -> None:
    error = await failure_of(raw_unary(running.channel, "Nope")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_above_the_limit_is_refused_and_the_connection_lives(start: Start) -> None:
    running = await start(limits={"message_size_bytes_max": 1000})
    error = await failure_of(running.stub.Recommend(pb.RecommendRequest(exclude_item_ids=["x" * 100] * 20)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" not in dict(error.trailing_metadata() or ())
    assert len((await ask(running)).item_ids) == 20


async def test_headers_above_the_limit_are_refused(start: Start) -> None:
    running = await start(limits={"metadata_size_bytes_max": 2000})
    error = await failure_of(ask(running, metadata=[("x-long", "x" * 4000)]))
    # pygrpc-native answers with HTTP status 431, which gRPC has no code for
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN)
    assert running.engine.batches == []


async def test_what_waits_while_the_engine_works_becomes_one_batch(running: Running) -> None:
    held = await hold_engine(running)
    waiting = [ask(running, f"u-{number}") for number in range(20)]
    await until(lambda: running.server.batcher.queue_length == 20)
    running.engine.gate.set()
    await asyncio.gather(held, *waiting)
    first, second = users_asked(running.engine)
    assert first == ["held"]
    assert sorted(second) == sorted(f"u-{number}" for number in range(20))


async def test_a_fault_in_a_batch_hits_only_the_call_that_caused_it(running: Running) -> None:
    held = await hold_engine(running)
    waiting = [ask(running, user) for user in ("a", POISON, "b")]
    await until(lambda: running.server.batcher.queue_length == 3)
    running.engine.gate.set()
    results = await asyncio.gather(held, *waiting, return_exceptions=True)
    assert [isinstance(result, grpc.aio.AioRpcError) for result in results] == [False, False, True, False]


async def test_too_many_calls_in_flight_are_told_when_to_come_back(start: Start) -> None:
    running = await start(limits={"concurrent_rpcs_max": 2, "retry_after_ms": 70})
    held = await hold_engine(running)
    waiting = ask(running)
    await until(lambda: in_flight(running) == 2)
    error = await failure_of(ask(running))
    running.engine.gate.set()
    await asyncio.gather(held, waiting)
    assert_retry_after(error, 70, "TOO_MANY_IN_FLIGHT")


async def test_a_full_queue_is_overload_too(start: Start) -> None:
    running = await start(batching={"queue_length_max": 2, "batch_size_max": 2}, limits={"retry_after_ms": 70})
    held = await hold_engine(running)
    waiting = [ask(running) for _ in range(2)]
    await until(lambda: running.server.batcher.queue_length == 2)
    error = await failure_of(ask(running))
    batch_error = await failure_of(
        running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=[pb.RecommendRequest()]))
    )
    running.engine.gate.set()
    await asyncio.gather(held, *waiting)
    assert_retry_after(error, 70, "QUEUE_FULL")
    assert_retry_after(batch_error, 70, "QUEUE_FULL")
    assert in_flight(running) == 0


async def test_a_burst_never_queues_more_than_the_queue_holds(start: Start) -> None:
    running = await start(batching={"queue_length_max": 5, "batch_size_max": 5})
    held = await hold_engine(running)
    burst = [ask(running) for _ in range(40)]
    await until(lambda: counted(running, "RESOURCE_EXHAUSTED") == 35)
    assert running.server.batcher.queue_length == 5
    running.engine.gate.set()
    results = await asyncio.gather(held, *burst, return_exceptions=True)
    assert sum(isinstance(result, grpc.aio.AioRpcError) for result in results) == 35


async def test_a_deadline_that_passes_in_the_queue_never_reaches_the_engine(running: Running) -> None:
    held = await hold_engine(running)
    error = await failure_of(ask(running, "late", timeout=0.5))
    await until(lambda: counted(running, "DEADLINE_EXCEEDED") == 1)
    running.engine.gate.set()
    await held
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await ask(running, "next")
    assert users_asked(running.engine) == [["held"], ["next"]]
    assert in_flight(running) == 0


async def test_a_call_without_a_deadline_gets_the_default_one(start: Start) -> None:
    running = await start(limits={"default_deadline_ms": 50})
    held = await hold_engine(running, timeout=None)
    error = await failure_of(ask(running))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason_of(error) == "DEADLINE_PASSED"
    await until(lambda: in_flight(running) == 0)
    running.engine.gate.set()
    assert (await failure_of(held)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert counted(running, "DEADLINE_EXCEEDED") == 2


async def test_a_caller_that_hangs_up_is_dropped_from_the_queue(running: Running) -> None:
    held = await hold_engine(running)
    call = running.stub.Recommend(pb.RecommendRequest(user_id="gone"))
    await until(lambda: running.server.batcher.queue_length == 1)
    call.cancel()
    await until(lambda: in_flight(running) == 1)
    running.engine.gate.set()
    await held
    await ask(running, "next")
    assert users_asked(running.engine) == [["held"], ["next"]]
    assert counted(running, "CANCELLED") == 1
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_batch_whose_caller_hangs_up_is_dropped_whole(running: Running) -> None:
    held = await hold_engine(running)
    requests = [pb.RecommendRequest(user_id="gone")] * 3
    call = running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests))
    await until(lambda: running.server.batcher.queue_length == 3)
    call.cancel()
    await until(lambda: in_flight(running) == 1)
    running.engine.gate.set()
    await held
    await ask(running, "next")
    assert users_asked(running.engine) == [["held"], ["next"]]


async def test_a_generation_is_swapped_between_two_batches(running: Running) -> None:
    old = running.engine
    held = await hold_engine(running)
    waiting = ask(running)
    await until(lambda: running.server.batcher.queue_length == 1)
    new_id = publish(running.root, swapped=True)
    set_current(running.root, new_id)
    await until(lambda: running.server.batcher.engine is not old)
    old.gate.set()
    assert (await held).generation_id == old.generation_id
    assert (await waiting).generation_id == new_id


async def test_logs_name_the_request_and_the_callers_trace(running: Running) -> None:
    with log_lines() as lines:
        await failure_of(
            running.stub.Recommend(
                pb.RecommendRequest(request_id="r-7", placement="nowhere"), metadata=[("traceparent", TRACEPARENT)]
            )
        )
    [line] = [line for line in lines() if line["event"] == "request refused"]
    assert (line["method"], line["request_id"], line["traceparent"]) == ("Recommend", "r-7", TRACEPARENT)
    assert (line["code"], line["reason"]) == ("INVALID_ARGUMENT", "INVALID_FIELD")


async def test_a_batch_is_counted_with_its_waits(running: Running) -> None:
    await ask(running)
    sample = running.server.metrics.registry.get_sample_value
    assert sample("twinrank_batch_size_count") == sample("twinrank_queue_seconds_count") == 1
    assert sample("twinrank_request_seconds_count", {"method": "Recommend"}) == 1


def assert_retry_after(error: grpc.aio.AioRpcError, retry_after_ms: int, reason: str) -> None:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == reason
    assert unpack(details_of(error), error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == retry_after_ms


@contextmanager
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The server's log while this is entered."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logs(LogsConfig(), stream)
    try:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
