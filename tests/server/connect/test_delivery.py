"""Delivery over a real stream: refusals, outages, invalid events, bounds; always every event once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest
from twinrank.v1 import events_pb2 as pb

from server.connect import message as message_module
from server.connect.delivery import Delivery
from server.connect.errors import DeliveryRefused
from server.connect.message import Delivered
from tests.server.connect.event_server import EventServer, full, invalid
from tests.server.waiting import until_in_thread


@pytest.fixture
def delivery(events: EventServer) -> Iterator[Delivery]:
    made = Delivery(events.target)
    yield made
    made.close()


def some(first: int, count: int) -> list[pb.Event]:
    return [
        pb.Event(event_id=f"e{i}", event_type="view", user_id="u", item_id=f"i{i}") for i in range(first, first + count)
    ]


def all_of(delivery: Delivery) -> list[Delivered]:
    done: list[Delivered] = []

    def finished() -> bool:
        done.extend(delivery.poll(0.05))
        return not delivery.in_flight

    until_in_thread(finished)
    return done


def test_messages_are_done_in_the_order_in_which_they_were_sent(events: EventServer, delivery: Delivery) -> None:
    for tag in range(6):
        delivery.send(some(10 * tag, 10 if tag != 3 else 0), tag)
    done = all_of(delivery)
    assert [one.tag for one in done] == list(range(6))
    assert [one.written_count for one in done] == [10, 10, 10, 0, 10, 10]
    assert [event.event_id for event in events.arrived] == [f"e{i}" for i in range(60) if not 30 <= i < 40]


def test_a_server_that_is_full_is_asked_again_later(events: EventServer, delivery: Delivery) -> None:
    refusals = iter([full(), full(), None, full()])
    events.refuse = lambda _: next(refusals, None)
    for tag in range(3):
        delivery.send(some(10 * tag, 10), tag)
    until_in_thread(lambda: delivery.poll(0.01) or delivery.trouble)
    assert "the store is full" in delivery.trouble
    done = all_of(delivery)
    assert {event.event_id for event in events.arrived} == {f"e{i}" for i in range(30)}
    assert len(events.arrived) == 30
    assert sum(one.written_count for one in done) <= 30
    assert (events.stream_count, delivery.trouble) == (1, "")


def test_a_broken_stream_is_opened_anew_and_the_rest_comes_again(events: EventServer, delivery: Delivery) -> None:
    events.break_after = 2
    for tag in range(5):
        delivery.send(some(10 * tag, 10), tag)
    done = all_of(delivery)
    assert [one.tag for one in done] == list(range(5))
    assert events.stream_count == 2
    assert [event.event_id for event in events.arrived if events.ids[event.event_id] == 1][:50:10] == [
        "e0", "e10", "e20", "e30", "e40",
    ]  # fmt: skip


def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    with EventServer() as gone:
        target, port = gone.target, gone.port
    delivery = Delivery(target)
    delivery.send(some(0, 5), "tag")
    until_in_thread(lambda: delivery.poll(0.01) or "UNAVAILABLE" in delivery.trouble)
    assert delivery.in_flight == 1
    with EventServer(f"127.0.0.1:{port}") as back:
        (done,) = all_of(delivery)
        assert (done.written_count, len(back.arrived)) == (5, 5)
        delivery.close()


def test_a_server_that_acknowledges_nothing_is_left(events: EventServer) -> None:
    delivery = Delivery(events.target, acknowledgement_timeout_s=0.2)
    events.gate.clear()
    delivery.send(some(0, 5), "tag")
    until_in_thread(lambda: delivery.poll(0.01) or "no acknowledgement" in delivery.trouble)
    events.gate.set()
    (done,) = all_of(delivery)
    assert done.written_count + done.duplicate_count == 5
    assert len(events.ids) == 5
    delivery.close()


def test_invalid_events_are_taken_out_and_the_others_written(events: EventServer, delivery: Delivery) -> None:
    def wrong(request: pb.StreamEventsRequest) -> pb.EventsError | None:
        fields = [f"events[{i}].item_id" for i, event in enumerate(request.events) if event.event_id in ("e3", "e7")]
        return invalid(*fields, message=f"{fields[0]}: is too long") if fields else None

    events.refuse = wrong
    delivery.send(some(0, 10), "tag")
    (done,) = all_of(delivery)
    assert done.written_count == 8
    assert [(one.place, one.reason) for one in done.refused] == [(3, "invalid_argument"), (7, "invalid_argument")]
    assert "is too long" in done.refused[0].detail
    assert [event.event_id for event in events.arrived] == [f"e{i}" for i in range(10) if i not in (3, 7)]


def test_an_invalid_event_that_is_not_named_is_searched_for(events: EventServer, delivery: Delivery) -> None:
    events.refuse = lambda request: (
        invalid(message="something is wrong") if any(event.event_id == "e13" for event in request.events) else None
    )
    delivery.send(some(0, 20), "tag")
    (done,) = all_of(delivery)
    assert (done.written_count, [one.place for one in done.refused]) == (19, [13])


def test_no_more_than_the_limit_is_in_flight(events: EventServer) -> None:
    delivery = Delivery(events.target, messages_in_flight_max=3)
    events.gate.clear()
    sent = 0
    while not delivery.full:
        delivery.send(some(sent, 1), sent)
        sent += 1
    assert (sent, delivery.in_flight) == (3, 3)
    assert delivery.poll(0.05) == []
    events.gate.set()
    assert len(all_of(delivery)) == 3
    delivery.close()


def test_large_messages_are_parted_and_an_event_too_large_is_refused(
    events: EventServer, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_module, "MESSAGE_BYTES_MAX", 200)
    large = some(0, 20)
    large[5].query = "x" * 300
    delivery.send(large, "tag")
    (done,) = all_of(delivery)
    assert done.written_count == 19
    assert [(one.place, one.reason) for one in done.refused] == [(5, "too_large")]
    assert events.messages == [11, 8]  # of 18 bytes each


@pytest.mark.parametrize("how", ["a message", "the stream"])
def test_a_server_that_will_never_take_events_ends_the_delivery(events: EventServer, how: str) -> None:
    delivery = Delivery(events.target)
    if how == "a message":
        events.refuse = lambda _: pb.EventsError(
            code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message="the store is off"
        )
        words = "the store is off"
    else:
        events.on_stream = lambda context: context.abort(grpc.StatusCode.PERMISSION_DENIED, "not from here")
        words = "not from here"
    delivery.send(some(0, 1), "tag")
    with pytest.raises(DeliveryRefused, match=words):
        all_of(delivery)
    delivery.close()


def test_closing_leaves_no_thread_behind(events: EventServer) -> None:
    delivery = Delivery(events.target)
    delivery.send(some(0, 1), "tag")
    all_of(delivery)
    delivery.close()
    until_in_thread(lambda: not [one for one in threading.enumerate() if one.name == "acknowledgements"])
