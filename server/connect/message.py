"""A message of events on its way to the server, and the parts that it travels in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinrank.v1 import events_pb2 as pb

MESSAGE_BYTES_MAX = 256 * 1024
"""Well below what a server takes; a message of 100 events has some 10 kB."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that the server will never take: its place in the message, and why."""

    place: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that is done with: written, duplicate and refused events are all that it had."""

    tag: Any
    written_count: int
    duplicate_count: int
    refused: Sequence[Refused]


@dataclass(slots=True)
class Message:
    """A message on its way: its number among all, and what has become of its events so far."""

    number: int
    tag: Any
    open_parts: int = 0
    written_count: int = 0
    duplicate_count: int = 0
    refused: list[Refused] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """Events of one message that travel together; `places` are theirs in the message."""

    message: Message
    places: list[int]
    events: list[pb.Event]

    @property
    def order(self) -> tuple[int, int]:
        """Parts go out in this order."""
        return self.message.number, self.places[0]

    def only(self, chosen: Sequence[int]) -> Part:
        """The part with these of its events, by their index in it."""
        return Part(self.message, [self.places[i] for i in chosen], [self.events[i] for i in chosen])


def parts_of(message: Message, events: Sequence[pb.Event]) -> Iterator[Part]:
    """The events in parts of at most MESSAGE_BYTES_MAX; one that is larger by itself is refused at once."""
    part, size_bytes = Part(message, [], []), 0
    for place, event in enumerate(events):
        event_bytes = event.ByteSize()
        if event_bytes > MESSAGE_BYTES_MAX:
            message.refused.append(Refused(place, "too_large", f"the event has {event_bytes} bytes"))
            continue
        if part.events and size_bytes + event_bytes > MESSAGE_BYTES_MAX:
            yield part
            part, size_bytes = Part(message, [], []), 0
        part.places.append(place)
        part.events.append(event)
        size_bytes += event_bytes
    if part.events:
        yield part
