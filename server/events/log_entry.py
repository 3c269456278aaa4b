"""One event as the log keeps it: the bytes of field `e` of a stream entry.

    head     version u8, flags u16, time_s f64, little endian
    numbers  those that the flags name, in this order: quantity f32, value f64, rating f32, list_position u32,
             dwell_s f32
    texts    UTF-8, joined by NUL: user_id, visitor_id, item_id, session_id, event_id, the type when it is none of the
             standard ones, attribution_token, query, then name and value of each context entry; empty ones at the end
             are left out

Texts hold no NUL: decoding of requests refuses control characters. Flags: bits 0-4 which numbers are there, bit 5
signs_in, bits 8-11 the standard type. A quantity of 1 is not written.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from server.events.domain import LoggedEvent

VERSION = 1
STANDARD_TYPES = ("view", "click", "add_to_cart", "remove_from_cart", "purchase", "rate", "search", "impression")
"""Their codes are 1, 2, … in this order, for ever; 0 is a type of the shop's own."""

_HEAD = struct.Struct("<BHd")
_NUMBERS = "fdfIf"
_SIGNS_IN = 1 << 5
_TYPE_SHIFT = 8
_TYPE_FLAGS = {name: code << _TYPE_SHIFT for code, name in enumerate(STANDARD_TYPES, start=1)}
_LAYOUTS = tuple(
    struct.Struct("<BHd" + "".join(form for bit, form in enumerate(_NUMBERS) if flags >> bit & 1))
    for flags in range(32)
)
_TEXT_COUNT = 8


class EntryInvalid(ValueError):
    """An entry of the log that cannot be read, or an event that cannot be written; the message says why."""


def encode(event: LoggedEvent) -> bytes:
    """The entry of an event; its position is the entry's own id. Raises `EntryInvalid`."""
    return encode_fields(
        event.event_type,
        event.user_id,
        event.visitor_id,
        event.session_id,
        event.item_id,
        event.event_id,
        event.time_s,
        event.quantity,
        event.value,
        event.rating,
        event.list_position,
        event.dwell_s,
        event.context,
        event.attribution_token,
        event.query,
        event.signs_in,
    )


def encode_fields(
    event_type: str,
    user_id: str,
    visitor_id: str,
    session_id: str,
    item_id: str,
    event_id: str,
    time_s: float,
    quantity: float,
    value: float | None,
    rating: float | None,
    list_position: int | None,
    dwell_s: float | None,
    context: Mapping[str, str] | None,
    attribution_token: str,
    query: str,
    signs_in: bool,
) -> bytes:
    """As `encode`, without an object for each event."""
    flags = _TYPE_FLAGS.get(event_type, 0)
    own_type = "" if flags else event_type
    if signs_in:
        flags |= _SIGNS_IN
    if quantity == 1.0 and value is None and rating is None and list_position is None and dwell_s is None:
        head = _HEAD.pack(VERSION, flags, time_s)
    else:
        numbers: list[float] = []
        if quantity != 1.0:
            flags |= 1
            numbers.append(quantity)
        if value is not None:
            flags |= 2
            numbers.append(value)
        if rating is not None:
            flags |= 4
            numbers.append(rating)
        if list_position is not None:
            flags |= 8
            numbers.append(list_position)
        if dwell_s is not None:
            flags |= 16
            numbers.append(dwell_s)
        head = _LAYOUTS[flags & 31].pack(VERSION, flags, time_s, *numbers)
    text = f"{user_id}\0{visitor_id}\0{item_id}\0{session_id}\0{event_id}\0{own_type}\0{attribution_token}\0{query}"
    separator_count = _TEXT_COUNT - 1
    if context:
        for name, label in context.items():
            text += f"\0{name}\0{label}"
        separator_count += 2 * len(context)
    if text.count("\0") != separator_count:
        raise EntryInvalid("a text of the event holds a NUL character")
    return head + text.rstrip("\0").encode()


def decode(data: bytes, position: str) -> LoggedEvent:
    """The event of an entry. Raises `EntryInvalid`."""
    try:
        version, flags, time_s = _HEAD.unpack_from(data)
        if version != VERSION:
            raise EntryInvalid(f"log entry {position} has version {version}; this server reads version {VERSION}")
        layout = _LAYOUTS[flags & 31]
        numbers = iter(layout.unpack_from(data)[3:])
        quantity, value, rating, list_position, dwell_s = (
            next(numbers) if flags >> bit & 1 else None for bit in range(len(_NUMBERS))
        )
        code = flags >> _TYPE_SHIFT & 15
        standard_type = STANDARD_TYPES[code - 1] if code else ""
        texts = data[layout.size :].decode().split("\0")
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise EntryInvalid(f"log entry {position} of {len(data)} bytes cannot be read: {error}") from error
    texts += [""] * (_TEXT_COUNT - len(texts))
    user_id, visitor_id, item_id, session_id, event_id, own_type, attribution_token, query = texts[:_TEXT_COUNT]
    labels = texts[_TEXT_COUNT:]
    if len(labels) % 2:  # the last value is empty
        labels.append("")
    return LoggedEvent(
        position=position,
        event_id=event_id,
        event_type=standard_type or own_type,
        user_id=user_id,
        visitor_id=visitor_id,
        session_id=session_id,
        item_id=item_id,
        time_s=time_s,
        quantity=1.0 if quantity is None else quantity,
        value=value,
        rating=rating,
        list_position=list_position,
        dwell_s=dwell_s,
        context=dict(zip(labels[::2], labels[1::2], strict=True)),
        attribution_token=attribution_token,
        query=query,
        signs_in=bool(flags & _SIGNS_IN),
    )


def decode_ids(data: bytes) -> tuple[str, str]:
    """user_id and visitor_id of an entry, and no more: for a scan that looks for a person. Raises `EntryInvalid`."""
    try:
        _, flags, _ = _HEAD.unpack_from(data)
        texts = data[_LAYOUTS[flags & 31].size :].split(b"\0", 2)
        return texts[0].decode(), texts[1].decode() if len(texts) > 1 else ""
    except (struct.error, UnicodeDecodeError) as error:
        raise EntryInvalid(f"a log entry of {len(data)} bytes cannot be read: {error}") from error
