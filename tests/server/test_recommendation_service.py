"""What callers get, over a real connection."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from twinrank.v1 import recommendation_pb2 as pb

from index.generation import set_current
from server.attribution import AttributionToken
from server.domain import RecommendQuery, RepeatPolicy, ScoreAnswer, ScoreQuery, SimilarItemsQuery
from tests.server.conftest import Running, make_config, publish, serve
from tests.server.fake_engine import ITEM_IDS, POISON, SCORES, SECRET
from tests.server.statuses import details_of, reason_of, unpack
from tests.server.stubs import raw_unary
from tests.server.waiting import until


async def test_a_list_comes_in_columns_with_its_generation_and_token(running: Running) -> None:
    response = await running.stub.Recommend(pb.RecommendRequest(request_id="r-1", user_id="u-1", page_size=3))
    assert list(response.item_ids) == ITEM_IDS[:3]
    assert list(response.scores) == pytest.approx(SCORES[:3])
    assert list(response.sources) == [
        pb.CANDIDATE_SOURCE_TWO_TOWER,
        pb.CANDIDATE_SOURCE_BUY_AGAIN,
        pb.CANDIDATE_SOURCE_POPULAR,
    ]
    assert response.request_id == "r-1"
    assert response.generation_id == running.engine.generation_id
    assert not response.degraded
    assert not response.HasField("timings")
    token = AttributionToken.decode(response.attribution_token)
    assert (token.request_id, token.generation_id, token.placement) == ("r-1", response.generation_id, "home")


async def test_an_empty_request_gets_the_default_placement_and_an_id(running: Running) -> None:
    response = await running.stub.Recommend(pb.RecommendRequest())
    assert len(response.item_ids) == 20
    assert response.request_id
    [[query]] = running.engine.batches
    assert isinstance(query, RecommendQuery)
    assert query.placement == "home"
    assert query.repeat_policy is RepeatPolicy.ALLOW


async def test_every_field_reaches_the_engine(running: Running) -> None:
    now_s = int(time.time())
    request = pb.RecommendRequest(
        placement="cart",
        user_id="u",
        visitor_id="v",
        session_id="s",
        context_item_ids=["c-1", "c-2"],
        context={"device": "phone"},
        page_size=5,
        exclude_item_ids=["item-0"],
        repeat_policy=pb.REPEAT_POLICY_EXCLUDE_BOUGHT,
        read_options=pb.ReadOptions(explain=True, timings=True),
    )
    request.request_time.FromSeconds(now_s - 1)
    request.recent_events.add(item_id="item-9", event_type="purchase").time.FromSeconds(now_s - 100)
    request.recent_events.add(item_id="item-8")
    request.recent_events.add(item_id="item-7").time.FromSeconds(now_s + 100)
    response = await running.stub.Recommend(request)

    [[query]] = running.engine.batches
    assert isinstance(query, RecommendQuery)
    assert (query.placement, query.page_size) == ("cart", 5)
    assert (query.shopper.user_id, query.shopper.visitor_id) == ("u", "v")
    assert query.shopper.context_item_ids == ("c-1", "c-2")
    assert query.shopper.context == {"device": "phone"}
    assert query.request_time_s == now_s - 1
    assert query.repeat_policy is RepeatPolicy.EXCLUDE_BOUGHT
    assert query.exclude_item_ids == ("item-0",)
    assert [(event.item_id, event.event_type, event.time_s) for event in query.shopper.recent_events] == [
        ("item-9", "purchase", now_s - 100),
        ("item-8", "view", now_s - 1),
        ("item-7", "view", now_s - 1),  # a little in the future: counts as just then
    ]
    assert len(response.explanations) == 5
    assert list(response.explanations[0].sources) == [pb.CANDIDATE_SOURCE_BUY_AGAIN, pb.CANDIDATE_SOURCE_POPULAR]
    assert (response.timings.rank_us, response.timings.batch_size) == (4, 1)


async def test_fewer_items_than_asked_is_degraded_and_says_so(running: Running) -> None:
    response = await running.stub.Recommend(pb.RecommendRequest(page_size=100, exclude_item_ids=ITEM_IDS[:100]))
    assert len(response.item_ids) == 50
    assert response.degraded
    assert response.degraded_reason == pb.DEGRADED_REASON_SHORTFALL


async def test_a_batch_is_answered_in_order(running: Running) -> None:
    requests = [pb.RecommendRequest(request_id=f"r-{size}", page_size=size) for size in (3, 1, 2)]
    response = await running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests))
    assert [(entry.request_id, len(entry.item_ids)) for entry in response.responses] == [
        ("r-3", 3),
        ("r-1", 1),
        ("r-2", 2),
    ]


async def test_scores_come_in_the_order_asked_and_name_the_unknown(running: Running) -> None:
    response = await running.stub.Score(pb.ScoreRequest(request_id="r", item_ids=["item-1", "nope"]))
    assert list(response.scores) == [0.5, 0.0]
    assert list(response.known) == [True, False]
    [[query]] = running.engine.batches
    assert isinstance(query, ScoreQuery)
    assert query.item_ids == ("item-1", "nope")


async def test_similar_items_have_their_own_page_size(running: Running) -> None:
    response = await running.stub.SimilarItems(pb.SimilarItemsRequest(item_id="item-1", exclude_item_ids=["item-5"]))
    assert len(response.item_ids) == 20
    [[query]] = running.engine.batches
    assert query == SimilarItemsQuery("item-1", 20, ("item-5",))


async def test_an_unknown_item_is_not_found(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.SimilarItems(pb.SimilarItemsRequest(item_id="nope"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(failure.value) == "ITEM_NOT_FOUND"


async def test_a_fault_of_the_engine_tells_the_caller_nothing_but_an_id(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest(request_id="quote-me", user_id=POISON))
    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert reason_of(failure.value) == "INTERNAL"
    assert failure.value.details() == "internal error; request_id quote-me"
    assert SECRET not in str(failure.value)
    assert SECRET not in str(details_of(failure.value))


async def test_a_fault_in_a_batch_hits_only_the_query_that_caused_it(running: Running) -> None:
    engine = running.engine
    engine.gate.clear()
    first = asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest()))
    await asyncio.to_thread(engine.entered.acquire)
    waiting = [
        asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest(user_id=user))) for user in ("a", POISON, "b")
    ]
    await until_queued(running, 3)
    engine.gate.set()
    results = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [isinstance(result, grpc.aio.AioRpcError) for result in results] == [False, False, True, False]


async def test_an_answer_that_is_not_a_number_never_leaves(running: Running) -> None:
    running.engine.broken_answer = ScoreAnswer([float("nan")], [True], "g")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Score(pb.ScoreRequest(item_ids=["item-1"]))
    assert failure.value.code() is grpc.StatusCode.INTERNAL


async def test_bytes_that_are_no_message_are_invalid_and_leak_nothing(running: Running) -> None:
    for method in ("Recommend", "BatchRecommend", "Score", "SimilarItems"):
        call = raw_unary(running.channel, method)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(b"\x0a\xff\xff\xff")
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(failure.value) == "MALFORMED_MESSAGE"
        assert "Parse" not in str(details_of(failure.value))


async def test_text_that_is_not_utf8_is_invalid(running: Running) -> None:
    call = raw_unary(running.channel, "Recommend")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call(b"\x1a\x02\xff\xfe")  # user_id
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_fields_of_a_newer_contract_are_ignored(running: Running) -> None:
    call = raw_unary(running.channel, "Recommend")
    raw = pb.RecommendRequest(page_size=2).SerializeToString() + b"\xfa\x7f\x01x"  # field 2047
    response = pb.RecommendResponse.FromString(await call(raw))
    assert len(response.item_ids) == 2


async def test_a_message_above_the_limit_is_refused(start: Any) -> None:
    running = await start(limits={"message_size_bytes_max": 1000})
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest(exclude_item_ids=["x" * 100] * 20))
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len((await running.stub.Recommend(pb.RecommendRequest())).item_ids) == 20


async def test_too_many_calls_in_flight_are_told_when_to_come_back(start: Any) -> None:
    running = await start(limits={"concurrent_rpcs_max": 2, "retry_after_ms": 70})
    running.engine.gate.clear()
    held = [asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest())) for _ in range(2)]
    await until(lambda: running.server._service.admission.in_flight_count == 2)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest())
    running.engine.gate.set()
    await asyncio.gather(*held)
    assert_retry_after(failure.value, 70, "TOO_MANY_IN_FLIGHT")


async def test_a_full_queue_is_overload_too(start: Any) -> None:
    running = await start(batching={"queue_length_max": 2, "batch_size_max": 2}, limits={"retry_after_ms": 70})
    running.engine.gate.clear()
    held = [asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest()))]
    await asyncio.to_thread(running.engine.entered.acquire)
    held += [asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest())) for _ in range(2)]
    await until_queued(running, 2)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest())
    with pytest.raises(grpc.aio.AioRpcError) as batch_failure:
        await running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=[pb.RecommendRequest()]))
    running.engine.gate.set()
    await asyncio.gather(*held)
    assert_retry_after(failure.value, 70, "QUEUE_FULL")
    assert_retry_after(batch_failure.value, 70, "QUEUE_FULL")


async def test_a_deadline_that_passes_in_the_queue_never_reaches_the_engine(running: Running) -> None:
    engine = running.engine
    engine.gate.clear()
    held = asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest(), timeout=10.0))
    await asyncio.to_thread(engine.entered.acquire)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest(user_id="late"), timeout=0.5)
    engine.gate.set()
    await held
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await running.stub.Recommend(pb.RecommendRequest())
    assert not any(query.shopper.user_id == "late" for batch in engine.batches for query in batch)  # type: ignore[union-attr]


async def test_a_call_without_a_deadline_gets_the_default_one(start: Any) -> None:
    running = await start(limits={"default_deadline_ms": 50})
    running.engine.gate.clear()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest())
    running.engine.gate.set()
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason_of(failure.value) == "DEADLINE_PASSED"


async def test_a_caller_that_hangs_up_is_dropped_from_the_queue(running: Running) -> None:
    engine = running.engine
    engine.gate.clear()
    held = asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest()))
    await asyncio.to_thread(engine.entered.acquire)
    call = running.stub.Recommend(pb.RecommendRequest(user_id="gone"))
    await until_queued(running, 1)
    call.cancel()
    await until(lambda: running.server._service.admission.in_flight_count == 1)
    engine.gate.set()
    await held
    await running.stub.Recommend(pb.RecommendRequest())
    assert not any(query.shopper.user_id == "gone" for batch in engine.batches for query in batch)  # type: ignore[union-attr]
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_without_a_generation_calls_are_unavailable_until_one_is_published(tmp_path: Path) -> None:
    async with serve(make_config(tmp_path / "generations")) as running:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await running.stub.Recommend(pb.RecommendRequest())
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(failure.value) == "NO_GENERATION"
        generation_id = publish(running.root)
        set_current(running.root, generation_id)
        await until(lambda: running.server.batcher.engine)
        response = await running.stub.Recommend(pb.RecommendRequest())
        assert response.generation_id == generation_id


async def until_queued(running: Running, count: int) -> None:
    await until(lambda: running.server.batcher.queue_length >= count)


def assert_retry_after(error: grpc.aio.AioRpcError, retry_after_ms: int, reason: str) -> None:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == reason
    delay = unpack(details_of(error), error_details_pb2.RetryInfo).retry_delay
    assert delay.ToMilliseconds() == retry_after_ms
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == str(retry_after_ms)
