"""What an event may say, and how it is named when it may not."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import events_pb2 as pb

from server.errors import InvalidRequest
from server.events.decoding import EventDecoder
from server.events.log_entry import decode

NOW_S = 1_700_000_000.5


def event(**fields: Any) -> pb.Event:
    return pb.Event(**{"event_type": "view", "user_id": "u", "item_id": "i", **fields})


def at(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


def entry_of(argument: bytes) -> bytes:
    """The log entry, which is the last argument of an event."""
    return argument.removesuffix(b"\r\n").split(b"\r\n$")[-1].split(b"\r\n", 1)[1]


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        (event(item_id=""), "item_id", "must not be empty for 'view'"),
        (event(item_id="i" * 129), "item_id", "129 bytes"),
        (event(item_id="a\nb"), "item_id", r"'a\\nb' holds a control character"),
        (event(user_id="é" * 65), "user_id", "130 bytes"),
        (event(user_id=""), "user_id", "so is visitor_id"),
        (event(visitor_id="v" * 129), "visitor_id", "129 bytes"),
        (event(session_id="s" * 129), "session_id", "129 bytes"),
        (event(event_id="e" * 129), "event_id", "129 bytes"),
        (event(event_type="gaze"), "event_type", "'gaze' is no event type here; known: add_to_cart, click"),
        (event(event_type=""), "event_type", "'' is no event type"),
        (event(event_type="rate"), "rating", "must be set for 'rate'"),
        (event(event_type="rate", rating=float("nan")), "rating", "is nan"),
        (event(quantity=-1), "quantity", "is -1; must be a finite number that is not negative"),
        (event(quantity=float("nan")), "quantity", "is nan"),
        (event(quantity=float("inf")), "quantity", "is inf"),
        (event(value=float("-inf")), "value", "is -inf; must be a finite number"),
        (event(dwell_s=-0.5), "dwell_s", "is -0.5"),
        (event(time=at(int(NOW_S) + 302)), "time", "in the future; at most 300 s"),
        (event(time=at(-1)), "time", "seconds is -1"),
        (event(time=at(1, 1_000_000_000)), "time", "nanos is 1000000000"),
        (event(query="q" * 513), "query", "513 bytes"),
        (event(attribution_token="t" * 2_000), "attribution_token", "2000 bytes"),
        (event(context={"": "x"}), 'context[""]', "has no name"),
        (event(context={"device": "d" * 129}), 'context["device"]', "129 bytes"),
        (event(context={str(place): "x" for place in range(33)}), "context", "33 entries"),
    ],
)
def test_a_wrong_field_is_named_with_its_event_and_value(
    decoder: EventDecoder, wrong: pb.Event, field: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as failure:
        decoder.decode([event(), event(), event(), wrong], NOW_S)
    assert [violation.field for violation in failure.value.violations] == [f"events[3].{field}"]


def test_every_wrong_field_is_named_at_once(decoder: EventDecoder) -> None:
    with pytest.raises(InvalidRequest) as failure:
        decoder.decode([event(item_id="", quantity=-1), event(), event(user_id="")], NOW_S)
    fields = [violation.field for violation in failure.value.violations]
    assert fields == ["events[0].item_id", "events[0].quantity", "events[2].user_id"]


def test_no_events_and_too_many_events_are_refused(decoder: EventDecoder) -> None:
    with pytest.raises(InvalidRequest, match="at least one event"):
        decoder.decode([], NOW_S)
    with pytest.raises(InvalidRequest, match="1001 entries; at most 1000"):
        decoder.decode([event()] * 1_001, NOW_S)


@pytest.mark.parametrize(
    "right",
    [
        event(item_id="i" * 128, user_id="u" * 128),
        event(item_id="Straße 🦊"),
        event(event_type="search", item_id="", query="wool socks"),
        event(event_type="rate", rating=0.0),
        event(event_type="wish"),
        event(user_id="", visitor_id="v"),
        event(quantity=0.0, value=-3.5, dwell_s=0.0, position=0),
        event(context={"device": ""}, attribution_token="t"),
    ],
)
def test_what_is_unusual_and_right_is_taken_as_it_is(decoder: EventDecoder, right: pb.Event) -> None:
    batch = decoder.decode([right], NOW_S)
    [[argument]] = batch.persons.values()
    logged = decode(entry_of(argument), "1-0")
    assert (logged.event_type, logged.user_id, logged.visitor_id) == (
        right.event_type, right.user_id, right.visitor_id,
    )  # fmt: skip
    assert (logged.item_id, logged.query, dict(logged.context)) == (right.item_id, right.query, dict(right.context))
    assert logged.value == (right.value if right.HasField("value") else None)
    assert logged.rating == (right.rating if right.HasField("rating") else None)
    assert logged.list_position == (right.position if right.HasField("position") else None)
    assert logged.dwell_s == (right.dwell_s if right.HasField("dwell_s") else None)
    assert logged.quantity == (right.quantity if right.HasField("quantity") else 1.0)
    assert logged.time_s == NOW_S


def test_a_time_a_little_in_the_future_counts_as_now_and_a_past_one_is_kept(decoder: EventDecoder) -> None:
    batch = decoder.decode([event(time=at(int(NOW_S) + 299)), event(time=at(86_400, 250_000_000))], NOW_S)
    times = [decode(entry_of(argument), "1-0").time_s for argument in batch.persons["u:u"]]
    assert times == [NOW_S, 86_400.25]


def test_events_go_to_the_user_when_there_is_one_and_both_ids_are_a_sign_in(decoder: EventDecoder) -> None:
    batch = decoder.decode([event(visitor_id="v"), event(user_id="", visitor_id="w"), event()], NOW_S)
    assert {person: len(events) for person, events in batch.persons.items()} == {"u:u": 2, "v:w": 1}
    assert batch.sign_ins == {("u", "v")}
    assert batch.count == 3
    [first, _] = batch.persons["u:u"]
    assert decode(entry_of(first), "1-0").signs_in
