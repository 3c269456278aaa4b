"""Protobuf in, checked events out, ready for the store: every limit is looked at before anything is written.

A message of a stream holds hundreds of events, so the good path is one pass without a call for each field: what looks
unusual (a long or non-ASCII text, a number that is no plain one, a time that is not past) is looked at again, closely,
and either found right or named as `events[3].item_id`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import xxhash
from twinrank.v1 import events_pb2 as pb

from server.config import EventKind, ServerConfig
from server.errors import VIOLATIONS_MAX, InvalidRequest, Violation
from server.events.batch import EventBatch
from server.events.log_entry import encode_fields
from server.fields import check_count, check_text, shown, timestamp_s
from server.state.packed import RECORD, type_hash

SEARCH, RATE = "search", "rate"
ATTRIBUTION_TOKEN_BYTES_MAX = 1_100
"""Three texts of up to 255 bytes and a head, in base64 (server/attribution.py)."""

_KINDS = {EventKind.DEED: b"\1", EventKind.SIGNAL: b"\2", EventKind.LOGGED: b"\0"}
_ID = struct.Struct("<4sQ2s")
_NO_ID = b"$0\r\n\r\n"
_hash64, _hash32 = xxhash.xxh3_64_intdigest, xxhash.xxh32_intdigest


class EventDecoder:
    """Decodes the events of one request, under the server's limits."""

    def __init__(self, config: ServerConfig) -> None:
        self._limits = config.limits
        self._events = config.events
        # What stands before a record in its command, and the type as the record has it.
        self._types = {
            name: (b"$1\r\n" + _KINDS[kind] + b"\r\n$32\r\n", type_hash(name))
            for name, kind in config.events.types.items()
        }

    def decode(self, events: Sequence[pb.Event], now_s: float) -> EventBatch:
        """All of the events. `now_s`: seconds since the epoch. Raises `InvalidRequest`, naming what is wrong."""
        violations: list[Violation] = []
        if not events:
            raise InvalidRequest([Violation("events", "must hold at least one event")])
        if not check_count(len(events), self._events.events_max, "events", violations):
            raise InvalidRequest(violations)
        types, id_max = self._types, self._limits.id_bytes_max
        persons: dict[str, list[bytes]] = {}
        sign_ins: set[tuple[str, str]] = set()
        record_of, id_of = RECORD.pack, _ID.pack
        for place, event in enumerate(events):
            event_type, user_id, visitor_id = event.event_type, event.user_id, event.visitor_id
            item_id, session_id, event_id = event.item_id, event.session_id, event.event_id
            quantity, time_s, token, query = event.quantity, now_s, event.attribution_token, event.query
            value: float | None = event.value
            rating: float | None = event.rating
            list_position: int | None = event.position
            dwell_s: float | None = event.dwell_s
            context = event.context or None
            # A field that says 0 may be one that was not set.
            if quantity == 0.0 and not event.HasField("quantity"):
                quantity = 1.0
            if value == 0.0 and not event.HasField("value"):
                value = None
            if rating == 0.0 and not event.HasField("rating"):
                rating = None
            if list_position == 0 and not event.HasField("position"):
                list_position = None
            if dwell_s == 0.0 and not event.HasField("dwell_s"):
                dwell_s = None
            in_time = True
            if event.HasField("time"):
                time = event.time
                nanos = time.nanos
                time_s = time.seconds + nanos * 1e-9
                in_time = 0.0 <= time_s <= now_s and 0 <= nanos <= 999_999_999
            texts = f"{user_id}{visitor_id}{item_id}{session_id}{event_id}"
            if not (
                (known := types.get(event_type))
                and in_time
                and (user_id or visitor_id)
                and (item_id or event_type == SEARCH)
                and len(texts) <= id_max
                and texts.isascii()
                and texts.isprintable()
                and quantity - quantity == 0.0 <= quantity
                and (value is None or value - value == 0.0)
                and (rating is None or rating - rating == 0.0)
                and (dwell_s is None or dwell_s - dwell_s == 0.0 <= dwell_s)
                and (rating is not None or event_type != RATE)
                and not (token or query or context)
            ):
                time_s = min(self._check(event, place, now_s, violations), now_s)
                if violations:
                    if len(violations) >= VIOLATIONS_MAX:
                        break
                    continue
                known = types[event_type]
            kind, type_number = known
            signs_in = bool(user_id and visitor_id)
            entry = encode_fields(
                event_type, user_id, visitor_id, session_id, item_id, event_id, time_s, quantity, value, rating,
                list_position, dwell_s, context, token, query, signs_in,
            )  # fmt: skip
            record = record_of(
                0.0,
                _hash64(item_id.encode()) if item_id else 0,
                int(time_s),
                _hash32(session_id.encode()) if session_id else 0,
                type_number,
                quantity,
            )
            packed_id = id_of(b"$8\r\n", _hash64(event_id.encode()), b"\r\n") if event_id else _NO_ID
            argument = b"%b%b%b\r\n$%d\r\n%b\r\n" % (packed_id, kind, record, len(entry), entry)
            if user_id:
                person = "u:" + user_id
                if visitor_id:
                    sign_ins.add((user_id, visitor_id))
            else:
                person = "v:" + visitor_id
            if person in persons:
                persons[person].append(argument)
            else:
                persons[person] = [argument]
        if violations:
            raise InvalidRequest(violations)
        return EventBatch(len(events), persons, frozenset(sign_ins))

    def _check(self, event: pb.Event, place: int, now_s: float, violations: list[Violation]) -> float:
        """Looks at every field of an event; its time, or now when that is wrong."""
        path = f"events[{place}]."
        limits = self._limits
        if event.event_type not in self._types:
            known = ", ".join(sorted(self._types))
            violations.append(
                Violation(path + "event_type", f"{shown(event.event_type)} is no event type here; known: {known}")
            )
        if not event.user_id and not event.visitor_id:
            violations.append(Violation(path + "user_id", "is empty, and so is visitor_id; one of them is needed"))
        if not event.item_id and event.event_type != SEARCH:
            violations.append(
                Violation(path + "item_id", f"must not be empty for {shown(event.event_type)}; only a search has none")
            )
        for name in ("event_id", "user_id", "visitor_id", "session_id", "item_id"):
            check_text(getattr(event, name), limits.id_bytes_max, path + name, violations)
        check_text(event.attribution_token, ATTRIBUTION_TOKEN_BYTES_MAX, path + "attribution_token", violations)
        check_text(event.query, self._events.query_bytes_max, path + "query", violations)
        self._check_context(event, path + "context", violations)
        for name, least in (("quantity", 0.0), ("value", -math.inf), ("rating", -math.inf), ("dwell_s", 0.0)):
            number = getattr(event, name)
            if not math.isfinite(number) or number < least:
                wanted = "a finite number" if least else "a finite number that is not negative"
                violations.append(Violation(path + name, f"is {number:g}; must be {wanted}"))
        if event.event_type == RATE and not event.HasField("rating"):
            violations.append(Violation(path + "rating", "must be set for 'rate'"))
        return self._time_s(event, now_s, path + "time", violations)

    def _check_context(self, event: pb.Event, path: str, violations: list[Violation]) -> None:
        limits = self._limits
        if not check_count(len(event.context), limits.context_entries_max, path, violations):
            return
        for name, label in event.context.items():
            at = f'{path}["{name[:40]}"]'
            if not name:
                violations.append(Violation(at, "has no name"))
            check_text(name, limits.id_bytes_max, at, violations)
            check_text(label, limits.context_value_bytes_max, at, violations)

    def _time_s(self, event: pb.Event, now_s: float, path: str, violations: list[Violation]) -> float:
        if not event.HasField("time"):
            return now_s
        time_s = timestamp_s(event.time, path, violations)
        if time_s is None:
            return now_s
        if time_s > now_s + self._events.clock_skew_s:
            violations.append(
                Violation(
                    path,
                    f"{event.time.ToJsonString()} is {time_s - now_s:.0f} s in the future; at most "
                    f"{self._events.clock_skew_s:g} s are allowed",
                )
            )
        return time_s
