"""Events to protobuf and back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import events_pb2 as pb

from twinrank_client.errors import Failure, TwinrankError, to_error
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.status import status_code


def write_event(event: Event) -> pb.Event:
    """An event, as sent; it gets an id when it has none, so that it may be sent again."""
    message = pb.Event(
        event_id=event.event_id or uuid.uuid4().hex,
        event_type=event.event_type,
        user_id=event.user_id,
        visitor_id=event.visitor_id,
        session_id=event.session_id,
        item_id=event.item_id,
        quantity=event.quantity,
        value=event.value,
        rating=event.rating,
        position=event.position,
        dwell_s=event.dwell_s,
        context=event.context,
        attribution_token=event.attribution_token,
        query=event.query,
    )
    if event.time is not None:
        message.time.FromDatetime(event.time)
    return message


def read_event(message: pb.Event) -> Event:
    """An event, as received."""

    def number(name: str) -> float | None:
        return getattr(message, name) if message.HasField(name) else None

    return Event(
        event_type=message.event_type,
        user_id=message.user_id,
        visitor_id=message.visitor_id,
        session_id=message.session_id,
        item_id=message.item_id,
        time=_datetime(message.time) if message.HasField("time") else None,
        quantity=number("quantity"),
        value=number("value"),
        rating=number("rating"),
        position=message.position if message.HasField("position") else None,
        dwell_s=number("dwell_s"),
        context=dict(message.context),
        attribution_token=message.attribution_token,
        query=message.query,
        event_id=message.event_id,
    )


def write_events(events: Sequence[Event]) -> pb.WriteEventsRequest:
    """Events of one call."""
    return pb.WriteEventsRequest(events=[write_event(event) for event in events])


def read_receipt(message: pb.WriteEventsResponse | pb.StreamEventsResponse) -> WriteReceipt:
    """What was written."""
    request_id = message.request_id if isinstance(message, pb.WriteEventsResponse) else ""
    return WriteReceipt(message.written_count, message.duplicate_count, message.position_token, request_id)


def read_error(error: pb.EventsError) -> TwinrankError:
    """Why a message of a stream was refused; wrong fields come without descriptions, so each gets the message."""
    fields = dict.fromkeys(error.fields, error.message)
    return to_error(Failure(status_code(error.code), error.message, error.reason, fields))


def _datetime(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)
