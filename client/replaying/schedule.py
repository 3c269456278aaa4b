"""When which events go out: an open loop's schedule, made of the transactions' own times and a speed-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from twinrank.v1 import events_pb2 as pb

from client.replaying.transactions import Transaction

MESSAGE_EVENTS_MAX = 100
TICK_S = 0.01
"""Events due within so long travel in one message."""


@dataclass(frozen=True, slots=True)
class Message:
    """Events that go out together.

    Attributes:
        due_s: seconds after the start of the replay; None: as soon as the server takes it.
        simulated_s: the time of its newest event in the data.
    """

    due_s: float | None
    simulated_s: int
    events: list[pb.Event]


def messages(
    transactions: Iterable[Transaction],
    from_s: float,
    speed_up: float,
    *,
    begin_s: float | None = None,
    now: Callable[[], float] | None = None,
) -> Iterator[Message]:
    """Groups transactions into messages, and gives each event its time.

    speed_up: 0 makes no schedule.
    begin_s: when the replay began (epoch): an event's time becomes the moment at which it is due; None keeps the
        original times. Without a schedule `now` tells the moment.
    """
    events: list[pb.Event] = []
    first_due_s = due_s = 0.0
    simulated_s = 0
    for transaction in transactions:
        next_due_s = (transaction.time_s - from_s) / speed_up if speed_up else 0.0
        if len(events) >= MESSAGE_EVENTS_MAX or (events and next_due_s >= first_due_s + TICK_S):
            yield Message(due_s if speed_up else None, simulated_s, events)
            events = []
        due_s, simulated_s = next_due_s, transaction.time_s
        if not events:
            first_due_s = due_s
        event = transaction.event
        time_s: float = transaction.time_s
        if begin_s is not None:
            time_s = begin_s + due_s if speed_up or now is None else now()
        event.time.FromMicroseconds(round(time_s * 1e6))
        events.append(event)
    if events:
        yield Message(due_s if speed_up else None, simulated_s, events)
