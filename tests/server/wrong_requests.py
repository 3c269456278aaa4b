"""Every way to make one field of one request wrong, and the path that the violation must name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import filter_pb2
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


def _filters() -> Iterator[Case]:
    def put(**kind: Any) -> Callable[[Any], object]:
        return lambda message: message.filter.MergeFrom(filter_pb2.Filter(**kind))

    def equals(attribute: str, **value: Any) -> filter_pb2.EqualsFilter:
        return filter_pb2.EqualsFilter(attribute=attribute, value=filter_pb2.AttributeValue(**value))

    def is_in(attribute: str, *values: Any) -> filter_pb2.InFilter:
        return filter_pb2.InFilter(attribute=attribute, values=[filter_pb2.AttributeValue(**value) for value in values])

    def span(**fields: Any) -> filter_pb2.RangeFilter:
        return filter_pb2.RangeFilter(**fields)

    nothing, shoes = filter_pb2.Filter(), filter_pb2.Filter(equals=equals("category", text="shoes"))
    where = "filter.equals"
    for name in ("", "smell", "title", CONTROL):
        yield Case(f"{where}.attribute", put(equals=equals(name, text="red")), f"{where}.attribute")
    yield Case(f"{where}.value.text", put(equals=equals("price", text="cheap")), f"{where}.value")
    yield Case(f"{where}.value.text", put(equals=equals("category", text="ü" * 129)), f"{where}.value")
    yield Case(f"{where}.value.text", put(equals=equals("category")), f"{where}.value")
    yield Case(f"{where}.value.number", put(equals=equals("category", number=3)), f"{where}.value")
    yield Case(f"{where}.value.number", put(equals=equals("price", number=float("nan"))), f"{where}.value")
    where = "filter.is_in"
    many: list[dict[str, Any]] = [{"number": 1.0}] * 1_001
    yield Case(f"{where}.attribute", put(is_in=is_in("smell", {"text": "red"})), f"{where}.attribute")
    yield Case(f"{where}.values.text", put(is_in=is_in("price", {"number": 1.0}, {"text": "x"})), f"{where}.values[1]")
    yield Case(f"{where}.values.number", put(is_in=is_in("category", {"number": 1.0})), f"{where}.values[0]")
    yield Case(f"{where}.values.number", put(is_in=is_in("price", *many)), f"{where}.values")
    where = "filter.range"
    yield Case(f"{where}.attribute", put(range=span(attribute="category", minimum=1)), f"{where}.attribute")
    yield Case(f"{where}.minimum", put(range=span(attribute="price")), where)
    yield Case(f"{where}.minimum", put(range=span(attribute="price", minimum=float("nan"))), f"{where}.minimum")
    yield Case(f"{where}.maximum", put(range=span(attribute="price", minimum=2, maximum=1)), where)
    yield Case(f"{where}.maximum", put(range=span(attribute="price", maximum=float("nan"))), f"{where}.maximum")
    of_two, of_65 = [shoes, nothing], [shoes] * 65
    for name, message in (("all", filter_pb2.AllFilter), ("any", filter_pb2.AnyFilter)):
        path = f"filter.{name}.filters"
        yield Case(path, put(**{name: message(filters=of_two)}), f"{path}[1]")
        yield Case(path, put(**{name: message(filters=of_65)}), f"{path}[63]")
    nested = shoes
    for _ in range(8):
        nested = filter_pb2.Filter(negation=filter_pb2.NotFilter(filter=nested))
    yield Case("filter.negation.filter", put(negation=filter_pb2.NotFilter()), "filter.negation.filter")
    yield Case("filter.negation.filter", put(negation=nested.negation), "filter" + ".negation.filter" * 8)


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
    yield from _filters()
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
    yield from _filters()


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
