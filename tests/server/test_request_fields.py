"""Every field of every request made wrong in turn: INVALID_ARGUMENT that names the field, and a server that lives on.

The table is held against the descriptors: a field that is added to the contract without a case here fails a test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from twinrank.v1 import recommendation_pb2 as pb

from server.errors import VIOLATIONS_MAX
from tests.server.conftest import Running
from tests.server.statuses import details_of, fields_of

TOO_LONG = "ü" * 65  # 130 bytes, 65 characters
CONTROL = "line\nbreak"
NOW_S = int(time.time())


class Case(NamedTuple):
    """One way to make one field wrong. `descriptor_path` has no positions, `violation` is what must be named."""

    descriptor_path: str
    break_it: Callable[[Any], object]
    violation: str


def _set(field: str, value: object) -> Callable[[Any], object]:
    return lambda message: setattr(message, field, value)


def _add(field: str, *values: str) -> Callable[[Any], object]:
    return lambda message: getattr(message, field).extend(values)


def _text(field: str, *, required: bool = False) -> Iterator[Case]:
    yield Case(field, _set(field, TOO_LONG), field)
    yield Case(field, _set(field, CONTROL), field)
    if required:
        yield Case(field, _set(field, ""), field)


def _ids(field: str, count_max: int) -> Iterator[Case]:
    yield Case(field, _add(field, "ok", ""), f"{field}[1]")
    yield Case(field, _add(field, "ok", "ok", TOO_LONG), f"{field}[2]")
    yield Case(field, _add(field, CONTROL), f"{field}[0]")
    yield Case(field, _add(field, *["ok"] * (count_max + 1)), field)


def _time(path: str, timestamp_of: Callable[[Any], Timestamp], violation: str) -> Iterator[Case]:
    def put(**values: int) -> Callable[[Any], object]:
        return lambda message: timestamp_of(message).MergeFrom(Timestamp(**values))

    yield Case(f"{path}.seconds", put(seconds=-1), violation)
    yield Case(f"{path}.seconds", put(seconds=NOW_S + 7200), violation)
    yield Case(f"{path}.seconds", put(seconds=2**62), violation)
    yield Case(f"{path}.nanos", put(seconds=NOW_S, nanos=-1), violation)
    yield Case(f"{path}.nanos", put(seconds=NOW_S, nanos=1_000_000_000), violation)


def _event(**values: str) -> Callable[[Any], object]:
    def add(message: Any) -> None:
        message.recent_events.add(item_id="fine")
        message.recent_events.add(**{"item_id": "fine", **values})

    return add


def _shopper() -> Iterator[Case]:
    yield from _text("request_id")
    yield from _text("user_id")
    yield from _text("visitor_id")
    yield Case("placement", _set("placement", "nowhere"), "placement")
    yield Case("placement", _set("placement", "x" * 100_000), "placement")
    yield Case("recent_events.item_id", _event(item_id=""), "recent_events[1].item_id")
    yield Case("recent_events.item_id", _event(item_id=TOO_LONG), "recent_events[1].item_id")
    yield Case("recent_events.event_type", _event(event_type="stare"), "recent_events[1].event_type")
    yield Case(
        "recent_events.item_id",
        lambda message: message.recent_events.extend([pb.RecentEvent(item_id="x")] * 201),
        "recent_events",
    )
    yield from _time(
        "recent_events.time", lambda message: message.recent_events.add(item_id="fine").time, "recent_events[0].time"
    )
    yield from _ids("context_item_ids", 200)
    yield Case("context.key", lambda message: message.context.update({"mood": "good"}), 'context["mood"]')
    yield Case("context.value", lambda message: message.context.update({"device": TOO_LONG}), 'context["device"]')
    yield Case("context.value", lambda message: message.context.update({"device": CONTROL}), 'context["device"]')
    yield Case("context.key", lambda message: message.context.update({f"c{n}": "" for n in range(33)}), "context")
    yield from _time("request_time", lambda message: message.request_time, "request_time")
    yield Case("request_time.seconds", lambda message: message.request_time.FromSeconds(NOW_S - 7200), "request_time")


def _recommend() -> Iterator[Case]:
    yield from _shopper()
    yield from _text("session_id")
    yield Case("page_size", _set("page_size", 101), "page_size")
    yield Case("page_size", _set("page_size", 2**32 - 1), "page_size")
    yield from _ids("exclude_item_ids", 1000)
    yield Case("repeat_policy", _set("repeat_policy", 77), "repeat_policy")
    yield Case("repeat_policy", _set("repeat_policy", -1), "repeat_policy")


def _score() -> Iterator[Case]:
    yield from _shopper()
    yield Case("item_ids", lambda message: message.ClearField("item_ids"), "item_ids")
    for case in _ids("item_ids", 1000):
        yield case._replace(break_it=_cleared("item_ids", case))


def _similar_items() -> Iterator[Case]:
    yield from _text("request_id")
    yield from _text("item_id", required=True)
    yield Case("page_size", _set("page_size", 201), "page_size")
    yield from _ids("exclude_item_ids", 1000)


def _cleared(field: str, case: Case) -> Callable[[Any], object]:
    def break_it(message: Any) -> None:
        message.ClearField(field)
        case.break_it(message)

    return break_it


def _on_entry(entry_of: Callable[[Any], Any], case: Case) -> Callable[[Any], object]:
    return lambda message: case.break_it(entry_of(message))


def _inside(cases: Iterator[Case], outer: str, position: str, entry_of: Callable[[Any], Any]) -> Iterator[Case]:
    for case in cases:
        yield Case(
            f"{outer}.{case.descriptor_path}",
            _on_entry(entry_of, case),
            f"{outer}{position}.{case.violation}",
        )


def _batch() -> Iterator[Case]:
    yield from _inside(_recommend(), "requests", "[1]", lambda message: message.requests[1])
    yield Case("requests.user_id", lambda message: message.ClearField("requests"), "requests")
    yield Case("requests.user_id", lambda message: message.requests.extend([pb.RecommendRequest()] * 64), "requests")


def _stream() -> Iterator[Case]:
    yield from _inside(_recommend(), "request", "", lambda message: message.request)
    yield Case("request.request_id", lambda message: message.request.ClearField("request_id"), "request.request_id")
    yield Case("request.user_id", lambda message: message.ClearField("request"), "request")


GOOD: dict[str, Message] = {
    "Recommend": pb.RecommendRequest(user_id="u"),
    "BatchRecommend": pb.BatchRecommendRequest(requests=[pb.RecommendRequest(), pb.RecommendRequest(user_id="u")]),
    "StreamRecommend": pb.StreamRecommendRequest(request=pb.RecommendRequest(request_id="r")),
    "Score": pb.ScoreRequest(item_ids=["item-1"]),
    "SimilarItems": pb.SimilarItemsRequest(item_id="item-1"),
}
CASES: dict[str, list[Case]] = {
    "Recommend": list(_recommend()),
    "BatchRecommend": list(_batch()),
    "StreamRecommend": list(_stream()),
    "Score": list(_score()),
    "SimilarItems": list(_similar_items()),
}
NEVER_WRONG = {"read_options.explain", "read_options.timings"}
"""Booleans: both values mean something."""


def leaf_paths(descriptor: Descriptor, prefix: str = "") -> Iterator[str]:
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            assert field.message_type is not None
            yield from leaf_paths(field.message_type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


@pytest.mark.parametrize("method", pb.DESCRIPTOR.services_by_name["RecommendationService"].methods_by_name)
def test_every_field_of_the_contract_has_a_case(method: str) -> None:
    request = pb.DESCRIPTOR.services_by_name["RecommendationService"].methods_by_name[method].input_type
    fields = {path for path in leaf_paths(request) if not any(path.endswith(never) for never in NEVER_WRONG)}
    assert fields == {case.descriptor_path for case in CASES[method]}


def broken(method: str, case: Case) -> Any:
    message = type(GOOD[method])()
    message.CopyFrom(GOOD[method])
    case.break_it(message)
    return message


@pytest.mark.parametrize("method", [name for name in CASES if name != "StreamRecommend"])
async def test_a_wrong_field_is_named_and_the_server_lives(running: Running, method: str) -> None:
    call = getattr(running.stub, method)
    for case in CASES[method]:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(broken(method, case))
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT, case
        assert fields_of(failure.value) == [case.violation], case
    assert running.engine.batches == []
    assert await call(GOOD[method])


async def test_a_wrong_field_on_a_stream_is_named_and_the_stream_goes_on(running: Running) -> None:
    stream = running.stub.StreamRecommend()
    for case in CASES["StreamRecommend"]:
        await stream.write(broken("StreamRecommend", case))
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
