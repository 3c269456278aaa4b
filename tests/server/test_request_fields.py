"""Every field of every request made wrong in turn: INVALID_ARGUMENT that names the field, and a server that lives on.

The table is held against the descriptors: a field that is added to the contract without a case here fails a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.rpc import code_pb2
from twinrank.v1 import recommendation_pb2 as pb

from server.errors import VIOLATIONS_MAX
from tests.server.conftest import Running
from tests.server.statuses import details_of, fields_of
from tests.server.wrong_requests import CASES, CONTROL, TOO_LONG, broken, good_requests

GOOD = good_requests("item-1")
NEVER_WRONG = {"read_options.explain", "read_options.timings", "filter.available"}
"""Booleans: both values mean something."""


def leaf_paths(descriptor: Descriptor, prefix: str = "", around: tuple[str, ...] = ()) -> Iterator[str]:
    """A message within one of its own kind is a leaf."""
    around = (*around, descriptor.full_name)
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.full_name not in around:
            yield from leaf_paths(field.message_type, f"{prefix}{field.name}.", around)
        else:
            yield prefix + field.name


@pytest.mark.parametrize("method", pb.DESCRIPTOR.services_by_name["RecommendationService"].methods_by_name)
def test_every_field_of_the_contract_has_a_case(method: str) -> None:
    request = pb.DESCRIPTOR.services_by_name["RecommendationService"].methods_by_name[method].input_type
    fields = {path for path in leaf_paths(request) if not any(path.endswith(never) for never in NEVER_WRONG)}
    assert fields == {case.descriptor_path for case in CASES[method]}


@pytest.mark.parametrize("method", [name for name in CASES if name != "StreamRecommend"])
async def test_a_wrong_field_is_named_and_the_server_lives(running: Running, method: str) -> None:
    call = getattr(running.stub, method)
    for case in CASES[method]:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(broken(GOOD[method], case))
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT, case
        assert fields_of(failure.value) == [case.violation], case
    assert running.engine.batches == []
    assert await call(GOOD[method])


async def test_a_wrong_field_on_a_stream_is_named_and_the_stream_goes_on(running: Running) -> None:
    stream = running.stub.StreamRecommend()
    for case in CASES["StreamRecommend"]:
        await stream.write(broken(GOOD["StreamRecommend"], case))
        answer = await stream.read()
        assert answer.error.code == code_pb2.INVALID_ARGUMENT, case
        assert list(answer.error.fields) == [case.violation], case
    await stream.write(GOOD["StreamRecommend"])
    assert len((await stream.read()).response.item_ids) == 20
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_everything_wrong_at_once_is_reported_at_once(running: Running) -> None:
    request = pb.RecommendRequest(user_id=CONTROL, placement="nowhere", page_size=5, context={"mood": "good"})
    request.recent_events.add(event_type="stare")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(request)
    assert fields_of(failure.value) == [
        "placement",
        "user_id",
        "recent_events[0].item_id",
        "recent_events[0].event_type",
        'context["mood"]',
    ]


async def test_a_thousand_wrong_ids_do_not_burst_the_status(running: Running) -> None:
    request = pb.RecommendRequest(exclude_item_ids=[TOO_LONG] * 1000, context_item_ids=[CONTROL * 10] * 200)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=[request] * 2))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(fields_of(failure.value)) == VIOLATIONS_MAX
    assert details_of(failure.value).ByteSize() < 6000


async def test_an_unknown_placement_is_told_the_known_ones(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="cart, home, product"):
        await running.stub.Recommend(pb.RecommendRequest(placement="nowhere"))


async def test_replay_is_possible_where_the_configuration_allows_it(start: Any) -> None:
    running = await start(time={"replay_allowed": True})
    request = pb.RecommendRequest()
    request.request_time.FromJsonString("2017-12-01T00:00:00Z")
    request.recent_events.add(item_id="a").time.FromJsonString("2017-11-30T00:00:00Z")
    await running.stub.Recommend(request)
    assert running.engine.batches[0][0].request_time_s == 1512086400.0
    request.recent_events.add(item_id="b").time.FromJsonString("2017-12-02T00:00:00Z")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(request)
    assert fields_of(failure.value) == ["recent_events[1].time"]
