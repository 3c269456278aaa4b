"""What both clients promise, over real loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from twinrank_client import (
    CandidateSource,
    DeadlineExceeded,
    DegradedReason,
    Explanation,
    InternalError,
    InvalidRequest,
    ItemScore,
    Limits,
    NotFound,
    Overloaded,
    RecentEvent,
    RecommendRequest,
    RepeatPolicy,
    Retry,
    ScoredItem,
    ScoreRequest,
    SimilarItem,
    SimilarItemsRequest,
    Timeout,
    TwinrankError,
    Unavailable,
)
from twinrank_client.testing import FakeServer

from tests.client.conftest import Connect

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def about(seconds: float) -> Any:
    """A deadline on arrival: the way there takes some of it, and the wire rounds up."""
    return pytest.approx(seconds, abs=0.8)


async def test_every_field_of_a_recommend_request_arrives(connect: Connect, twinrank_server: FakeServer) -> None:
    request = RecommendRequest(
        user_id="user",
        visitor_id="visitor",
        placement="cart",
        session_id="session",
        recent_events=[
            RecentEvent("milk", "view", datetime(2017, 12, 1, 12, 30, 0, 250_000, tzinfo=UTC)),
            RecentEvent("bread"),
        ],
        context_item_ids=["butter", "jam"],
        context={"device": "phone", "place": "home"},
        request_time=datetime(2017, 12, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        page_size=7,
        exclude_item_ids=["salt"],
        repeat_policy=RepeatPolicy.EXCLUDE_BOUGHT,
        explain=True,
        timings=True,
        request_id="request",
    )
    async with connect(twinrank_server.target) as client:
        await client.recommend(request)
    assert twinrank_server.requests == [request]


async def test_recommendations_come_in_columns_and_as_items(connect: Connect, twinrank_server: FakeServer) -> None:
    why = Explanation((CandidateSource.BUY_AGAIN, CandidateSource.POPULAR), 0.5, 3.0, 12.0)
    given = [ScoredItem("milk", 0.75, CandidateSource.BUY_AGAIN, why), ScoredItem("bread", 0.25)]
    twinrank_server.give_recommendations(given)
    async with connect(twinrank_server.target) as client:
        answer = await client.recommend(RecommendRequest(page_size=2, explain=True, timings=True, request_id="r1"))
    assert answer.item_ids == ("milk", "bread")
    assert answer.scores == (0.75, 0.25)
    assert answer.sources == (CandidateSource.BUY_AGAIN, CandidateSource.UNKNOWN)
    assert answer.items[0] == given[0]
    assert len(answer) == 2
    assert answer.request_id == "r1"
    assert answer.generation_id
    assert answer.attribution_token
    assert answer.timings is not None
    assert answer.timings.batch_size == 1
    assert not answer.degraded


async def test_an_answer_without_extras_has_none(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.give_recommendations(["milk"])
    async with connect(twinrank_server.target) as client:
        answer = await client.recommend(RecommendRequest())
    assert answer.timings is None
    assert answer.explanations == ()
    assert answer.items == (ScoredItem("milk", 0.5, CandidateSource.TWO_TOWER),)


async def test_a_short_list_says_that_it_is(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.give_recommendations(["milk"])
    async with connect(twinrank_server.target) as client:
        answer = await client.recommend(RecommendRequest(page_size=5))
    assert answer.degraded
    assert answer.degraded_reason is DegradedReason.SHORTFALL


async def test_a_batch_is_answered_in_the_order_of_its_requests(connect: Connect, twinrank_server: FakeServer) -> None:
    for user_id in ("1", "2", "3"):
        twinrank_server.give_recommendations([f"item-{user_id}"], user_id=user_id)
    async with connect(twinrank_server.target) as client:
        answers = await client.batch_recommend([RecommendRequest(user_id=user_id) for user_id in ("3", "1", "2")])
    assert [answer.item_ids for answer in answers] == [("item-3",), ("item-1",), ("item-2",)]


async def test_scores_keep_the_order_asked_and_mark_unknown_items(
    connect: Connect, twinrank_server: FakeServer
) -> None:
    twinrank_server.give_scores({"milk": 0.5, "bread": 0.25})
    request = ScoreRequest(
        item_ids=["bread", "ghost", "milk"],
        user_id="1",
        visitor_id="v",
        placement="home",
        recent_events=[RecentEvent("milk", "view", datetime(2017, 12, 1, tzinfo=UTC))],
        context_item_ids=["jam"],
        context={"device": "phone"},
        request_time=datetime(2017, 12, 1, tzinfo=UTC),
        request_id="s1",
    )
    async with connect(twinrank_server.target) as client:
        answer = await client.score(request)
    assert answer.items == (
        ItemScore("bread", 0.25, True),
        ItemScore("ghost", 0.0, False),
        ItemScore("milk", 0.5, True),
    )
    assert (len(answer), answer.request_id) == (3, "s1")
    assert twinrank_server.requests == [request]


async def test_similar_items_come_most_similar_first(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.give_similar_items("milk", [ScoredItem("cream", 0.75), ScoredItem("oat milk", 0.5), "salt"])
    request = SimilarItemsRequest("milk", page_size=2, exclude_item_ids=["salt"], request_id="m1")
    async with connect(twinrank_server.target) as client:
        answer = await client.similar_items(request)
    assert answer.items == (SimilarItem("cream", 0.75), SimilarItem("oat milk", 0.5))
    assert (len(answer), answer.request_id) == (2, "m1")
    assert twinrank_server.requests == [request]


async def test_an_unknown_seed_item_is_not_found(connect: Connect, twinrank_server: FakeServer) -> None:
    async with connect(twinrank_server.target) as client:
        with pytest.raises(NotFound, match="'ghost'") as caught:
            await client.similar_items(SimilarItemsRequest("ghost"))
    assert caught.value.reason == "ITEM_NOT_FOUND"


async def test_stream_answers_are_told_apart_by_request_id(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.give_recommendations(["milk"], user_id="1")
    twinrank_server.give_recommendations(["bread"], user_id="2")
    requests = [RecommendRequest(user_id="1", request_id="a"), RecommendRequest(user_id="2", request_id="b")]
    async with connect(twinrank_server.target) as client:
        answers = await client.stream_recommend(requests)
    assert {answer.request_id: answer.result().item_ids for answer in answers} == {"a": ("milk",), "b": ("bread",)}


async def test_a_stream_gives_an_id_to_requests_without_one(connect: Connect, twinrank_server: FakeServer) -> None:
    async with connect(twinrank_server.target) as client:
        answers = await client.stream_recommend([RecommendRequest(), RecommendRequest()])
    ids = [answer.request_id for answer in answers]
    assert all(ids)
    assert len(set(ids)) == 2


async def test_one_failed_request_does_not_end_the_stream(connect: Connect, twinrank_server: FakeServer) -> None:
    code = grpc.StatusCode.INVALID_ARGUMENT
    twinrank_server.fail(code, "too many items", reason="INVALID_FIELD", fields={"page_size": ""}, times=1)
    twinrank_server.give_recommendations(["milk"])
    requests = [RecommendRequest(request_id="bad"), RecommendRequest(request_id="good")]
    async with connect(twinrank_server.target) as client:
        bad, good = await client.stream_recommend(requests)
    with pytest.raises(InvalidRequest) as caught:
        bad.result()
    assert caught.value.fields == {"page_size": "too many items"}
    assert caught.value.request_id == "bad"
    assert good.result().item_ids == ("milk",)


async def test_what_the_callers_iterable_raises_comes_out_of_the_stream(
    connect: Connect, twinrank_server: FakeServer
) -> None:
    def requests() -> Iterator[RecommendRequest]:
        yield RecommendRequest(request_id="sent")
        raise LookupError("the caller's own")

    async with connect(twinrank_server.target) as client:
        with pytest.raises(LookupError, match="the caller's own"):
            await client.stream_recommend(requests())
    assert [request.request_id for request in twinrank_server.requests] == ["sent"]


async def test_a_request_that_cannot_be_converted_comes_out_of_the_stream(
    connect: Connect, twinrank_server: FakeServer
) -> None:
    async with connect(twinrank_server.target) as client:
        with pytest.raises(ValueError, match="-1"):
            await client.stream_recommend([RecommendRequest(page_size=-1)])


async def test_a_broken_stream_raises(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.delay(10)
    async with connect(twinrank_server.target) as client:
        with pytest.raises(DeadlineExceeded):
            await client.stream_recommend([RecommendRequest()], timeout_s=0.05)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.INTERNAL, InternalError),
        (grpc.StatusCode.DATA_LOSS, InternalError),
    ],
)
async def test_a_status_becomes_an_exception_with_its_cause_and_request_id(
    connect: Connect, twinrank_server: FakeServer, code: grpc.StatusCode, kind: type[TwinrankError]
) -> None:
    twinrank_server.fail(code, "no luck", reason="NO_LUCK")
    async with connect(twinrank_server.target, retry=Retry(attempts_max=1)) as client:
        with pytest.raises(kind) as caught:
            await client.recommend(RecommendRequest(request_id="r1"))
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.message, error.reason, error.request_id) == (code, "no luck", "NO_LUCK", "r1")
    assert str(error) == f"no luck ({code.name}, NO_LUCK, request_id r1)"
    assert isinstance(error.__cause__, grpc.RpcError)


async def test_wrong_fields_are_named(connect: Connect, twinrank_server: FakeServer) -> None:
    fields = {"page_size": "must be at most 200", "requests[3].user_id": "must be at most 128 bytes"}
    twinrank_server.fail(grpc.StatusCode.INVALID_ARGUMENT, "2 fields are wrong", fields=fields)
    async with connect(twinrank_server.target) as client:
        with pytest.raises(InvalidRequest, match="page_size: must be at most 200") as caught:
            await client.batch_recommend([RecommendRequest()])
    assert caught.value.fields == fields


async def test_unavailable_twice_then_well_is_an_answer(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.give_recommendations(["milk"])
    twinrank_server.fail(grpc.StatusCode.UNAVAILABLE, times=2)
    async with connect(twinrank_server.target) as client:
        answer = await client.recommend(RecommendRequest(user_id="1"))
    assert answer.item_ids == ("milk",)
    assert len(twinrank_server.calls) == 3


async def test_without_retries_the_first_failure_is_the_last(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.fail(grpc.StatusCode.UNAVAILABLE, times=1)
    async with connect(twinrank_server.target, retry=Retry(attempts_max=1)) as client:
        with pytest.raises(Unavailable):
            await client.recommend(RecommendRequest())
    assert len(twinrank_server.calls) == 1


async def test_a_wrong_request_is_not_sent_again(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.fail(grpc.StatusCode.INVALID_ARGUMENT)
    async with connect(twinrank_server.target) as client:
        with pytest.raises(InvalidRequest):
            await client.recommend(RecommendRequest())
    assert len(twinrank_server.calls) == 1


async def test_an_overloaded_server_says_when_to_come_back_and_is_obeyed(
    connect: Connect, twinrank_server: FakeServer
) -> None:
    twinrank_server.give_recommendations(["milk"])
    twinrank_server.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=0.3, times=1)
    began_s = time.monotonic()
    # The client's own backoff is far shorter than what the server asks for.
    async with connect(twinrank_server.target, retry=Retry(backoff_ms=1, backoff_ms_max=1)) as client:
        answer = await client.recommend(RecommendRequest(), timeout_s=5)
    assert answer.item_ids == ("milk",)
    assert time.monotonic() - began_s >= 0.3


async def test_lasting_overload_carries_the_servers_advice(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=0.01)
    async with connect(twinrank_server.target) as client:
        with pytest.raises(Overloaded) as caught:
            await client.recommend(RecommendRequest())
    assert caught.value.retry_after_s == 0.01
    assert len(twinrank_server.calls) == 3


async def test_no_server_is_unavailable(connect: Connect) -> None:
    with FakeServer() as stopped:
        target = stopped.target
    async with connect(target) as client:
        with pytest.raises(Unavailable):
            await client.recommend(RecommendRequest())


async def test_the_clients_timeout_is_the_calls_deadline(connect: Connect, twinrank_server: FakeServer) -> None:
    async with connect(twinrank_server.target, timeout_s=3.0) as client:
        await client.recommend(RecommendRequest())
        await client.recommend(RecommendRequest(), timeout_s=2.0)
        await client.batch_recommend([RecommendRequest()])
        await client.stream_recommend([RecommendRequest()])
    left_s = [call.timeout_s for call in twinrank_server.calls]
    assert left_s == [about(3.0), about(2.0), about(3.0), None]


async def test_each_kind_of_call_may_have_its_timeout(connect: Connect, twinrank_server: FakeServer) -> None:
    timeout = Timeout(unary_s=2.0, batch_s=4.0, stream_s=6.0)
    async with connect(twinrank_server.target, timeout_s=timeout) as client:
        await client.score(ScoreRequest(item_ids=["milk"]))
        await client.batch_recommend([RecommendRequest()])
        await client.stream_recommend([RecommendRequest()])
    assert [call.timeout_s for call in twinrank_server.calls] == [about(2.0), about(4.0), about(6.0)]


async def test_a_late_answer_is_deadline_exceeded_and_not_waited_for(
    connect: Connect, twinrank_server: FakeServer
) -> None:
    twinrank_server.delay(30)
    began_s = time.monotonic()
    async with connect(twinrank_server.target) as client:
        with pytest.raises(DeadlineExceeded):
            await client.recommend(RecommendRequest(), timeout_s=0.05)
    assert time.monotonic() - began_s < 10


async def test_traceparent_goes_through(connect: Connect, twinrank_server: FakeServer) -> None:
    async with connect(twinrank_server.target) as client:
        await client.recommend(RecommendRequest(), traceparent=TRACEPARENT)
        await client.stream_recommend([RecommendRequest()], traceparent=TRACEPARENT)
    assert [call.metadata["traceparent"] for call in twinrank_server.calls] == [TRACEPARENT] * 2


@pytest.mark.parametrize("traceparent", ["", "garbage", TRACEPARENT.upper(), TRACEPARENT + "\n"])
async def test_a_malformed_traceparent_is_left_out(
    connect: Connect, twinrank_server: FakeServer, traceparent: str
) -> None:
    async with connect(twinrank_server.target) as client:
        await client.recommend(RecommendRequest(), traceparent=traceparent)
    assert "traceparent" not in twinrank_server.calls[0].metadata


async def test_channels_are_used_in_turn(connect: Connect, twinrank_server: FakeServer) -> None:
    async with connect(twinrank_server.target, channel_count=3) as client:
        for _ in range(6):
            await client.recommend(RecommendRequest())
    peers = [call.peer for call in twinrank_server.calls]
    assert len(set(peers)) == 3
    assert peers[:3] == peers[3:]


async def test_a_closed_client_says_so(connect: Connect, twinrank_server: FakeServer) -> None:
    async with connect(twinrank_server.target) as client:
        await client.recommend(RecommendRequest())
    with pytest.raises(RuntimeError, match="closed"):
        await client.recommend(RecommendRequest())


async def test_an_answer_above_the_limit_fails_the_call(connect: Connect, twinrank_server: FakeServer) -> None:
    twinrank_server.give_recommendations(["x" * 2000])
    limits = Limits(answer_size_bytes_max=1000)
    async with connect(twinrank_server.target, limits=limits, retry=Retry(attempts_max=1)) as client:
        with pytest.raises(Overloaded, match="larger than max"):
            await client.recommend(RecommendRequest())


@pytest.mark.parametrize("channel_count", [0, -1, 65])
def test_a_channel_count_out_of_range_is_refused(connect: Connect, channel_count: int) -> None:
    async def make() -> None:
        async with connect("127.0.0.1:1", channel_count=channel_count):
            pass

    with pytest.raises(ValueError, match="channel_count"):
        asyncio.run(make())
