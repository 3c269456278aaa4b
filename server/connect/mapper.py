"""From a record to an event, by a mapping. Only what a row itself can tell is decided; limits are the server's."""

from __future__ import annotations

import math
from collections.abc import Mapping as Row
from typing import Any
from zoneinfo import ZoneInfo

from twinrank.v1 import events_pb2 as pb

from server.connect.errors import BadRow
from server.connect.mapping import (
    CONTEXT_FIELD,
    NUMBER_FIELDS,
    PLACE_FIELD,
    TEXT_FIELDS,
    TIME_FIELD,
    Mapping,
    TimeFormat,
)
from server.connect.record import Record
from server.connect.values import number_of, place_of, shown, text_of, time_of


class Mapper:
    """Makes events of records."""

    def __init__(self, mapping: Mapping) -> None:
        self._texts = tuple((name, path) for name in TEXT_FIELDS if (path := mapping.source_of(name)))
        self._numbers = tuple((name, path) for name in NUMBER_FIELDS if (path := mapping.source_of(name)))
        self._time = mapping.source_of(TIME_FIELD)
        self._place = mapping.source_of(PLACE_FIELD)
        self._context = {name: tuple(source.split(".")) for name, source in mapping.context.items()}
        self._constants = {
            name: number_of(name, value)
            if name in NUMBER_FIELDS
            else place_of(name, value)
            if name == PLACE_FIELD
            else text_of(name, value)
            for name, value in mapping.constants.items()
        }
        self._event_types = mapping.event_types
        self._time_format: TimeFormat = mapping.time.format
        self._zone = ZoneInfo(mapping.time.zone)

    def event(self, record: Record) -> pb.Event | None:
        """The event of a record; None for a row whose type the mapping leaves out. Raises BadRow."""
        row = record.row
        if isinstance(row, BadRow):
            raise row
        fields: dict[str, Any] = dict(self._constants)
        for name, path in self._texts:
            if (value := find(row, path)) is not None:
                fields[name] = text_of(name, value)
        event_type = fields.get("event_type", "")
        if event_type in self._event_types:
            fields["event_type"] = event_type = self._event_types[event_type]
            if not event_type:
                return None
        if not event_type:
            raise BadRow("no_event_type", "the row names no event type, and the mapping has no constant for it")
        if "user_id" not in fields and "visitor_id" not in fields:
            raise BadRow("no_person", "the row has neither user_id nor visitor_id")
        for name, path in self._numbers:
            if (value := find(row, path)) is not None:
                fields[name] = number_of(name, value)
        if self._place and (value := find(row, self._place)) is not None:
            fields[PLACE_FIELD] = place_of(PLACE_FIELD, value)
        fields.setdefault("event_id", record.event_id)
        fields[CONTEXT_FIELD] = self._context_of(row)
        try:
            event = pb.Event(**fields)
        except (ValueError, UnicodeEncodeError) as error:  # a lone surrogate of a JSON escape
            raise BadRow("wrong_type", str(error)) from error
        time_s = self._time_s(record, row)
        if time_s is not None:
            event.time.FromMicroseconds(round(time_s * 1e6))
        return event

    def _time_s(self, record: Record, row: Row[str, Any]) -> float | None:
        if self._time and (value := find(row, self._time)) is not None:
            return time_of(value, self._time_format, self._zone)
        return None if record.arrived_ms is None else record.arrived_ms / 1000

    def _context_of(self, row: Row[str, Any]) -> dict[str, str]:
        own = find(row, (CONTEXT_FIELD,))
        context: dict[str, str] = {}
        if isinstance(own, Row):
            context = {str(name): text_of(f"context.{name}", value) for name, value in own.items() if value is not None}
        elif own is not None:
            raise BadRow("wrong_type", f"context is {shown(own)}, expected an object")
        for name, path in self._context.items():
            if (value := find(row, path)) is not None:
                context[name] = text_of(f"context.{name}", value)
        return context


def find(row: Row[str, Any], path: tuple[str, ...]) -> Any:
    """The value under a path of names; None where there is none, or an empty text, or NaN.

    A name with dots in it is found, too.
    """
    value: Any = row.get(path[0]) if len(path) == 1 else row.get(".".join(path))
    if value is None and len(path) > 1:
        value = row
        for name in path:
            value = value.get(name) if isinstance(value, Row) else None
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    return value
