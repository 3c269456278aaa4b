"""Every way to make one field of one request wrong, and the path that the violation must name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import recommendation_pb2 as pb

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
    yield Case("position_token", _set("position_token", "yesterday"), "position_token")
    yield Case("position_token", _set("position_token", "AgAAAAAAAAAA"), "position_token")
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


def good_requests(item_id: str) -> dict[str, Message]:
    """A request of each method that is right, where the item exists."""
    return {
        "Recommend": pb.RecommendRequest(user_id="u"),
        "BatchRecommend": pb.BatchRecommendRequest(requests=[pb.RecommendRequest(), pb.RecommendRequest(user_id="u")]),
        "StreamRecommend": pb.StreamRecommendRequest(request=pb.RecommendRequest(request_id="r")),
        "Score": pb.ScoreRequest(item_ids=[item_id]),
        "SimilarItems": pb.SimilarItemsRequest(item_id=item_id),
    }


CASES: dict[str, list[Case]] = {
    "Recommend": list(_recommend()),
    "BatchRecommend": list(_batch()),
    "StreamRecommend": list(_stream()),
    "Score": list(_score()),
    "SimilarItems": list(_similar_items()),
}


def broken(request: Message, case: Case) -> Any:
    """A copy of a right request with the one field made wrong."""
    message = type(request)()
    message.CopyFrom(request)
    case.break_it(message)
    return message
