"""An event of the log is what was written."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.events.domain import LoggedEvent
from server.events.log_entry import STANDARD_TYPES, EntryInvalid, decode, decode_ids, encode

POSITION = "1700000000000-3"
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
EVENTS = st.builds(
    LoggedEvent,
    position=st.just(POSITION),
    event_id=TEXT,
    event_type=st.one_of(st.sampled_from(STANDARD_TYPES), TEXT.filter(bool)),
    user_id=TEXT,
    visitor_id=TEXT,
    session_id=TEXT,
    item_id=TEXT,
    time_s=st.floats(0, 4e9),
    quantity=FLOAT32,
    value=st.none() | st.floats(allow_nan=False),
    rating=st.none() | FLOAT32,
    list_position=st.none() | st.integers(0, 2**32 - 1),
    dwell_s=st.none() | FLOAT32,
    context=st.dictionaries(TEXT.filter(bool), TEXT, max_size=4),
    attribution_token=TEXT,
    query=TEXT,
    signs_in=st.booleans(),
)


@given(EVENTS)
def test_what_is_decoded_is_what_was_encoded(event: LoggedEvent) -> None:
    entry = encode(event)
    assert decode(entry, POSITION) == event
    assert decode_ids(entry) == (event.user_id, event.visitor_id)


def test_a_plain_view_takes_its_texts_and_eleven_bytes() -> None:
    event = LoggedEvent(POSITION, "", "view", "user-1", "", "", "item-22", 1_700_000_000.25)
    assert encode(event) == struct.pack("<BHd", 1, 1 << 8, 1_700_000_000.25) + b"user-1\0\0item-22"
    assert decode(encode(event), POSITION).position_ms == 1_700_000_000_000


def test_a_nul_in_a_text_is_refused() -> None:
    with pytest.raises(EntryInvalid, match="NUL"):
        encode(LoggedEvent(POSITION, "", "view", "us\0er", "", "", "item", 0.0))


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x09" + bytes(10), b"\x01\xff\xff" + bytes(40), bytes([1]) + bytes(10) + b"\xff"]
)
def test_bytes_that_are_no_entry_are_named(data: bytes) -> None:
    with pytest.raises(EntryInvalid, match=f"log entry {POSITION}"):
        decode(data, POSITION)


@given(st.binary(max_size=80))
def test_no_bytes_do_anything_but_decode_or_raise_entry_invalid(data: bytes) -> None:
    for read in (lambda: decode(data, POSITION), lambda: decode_ids(data)):
        with contextlib.suppress(EntryInvalid):
            read()


def test_a_float_quantity_comes_back_as_float32() -> None:
    event = LoggedEvent(POSITION, "", "purchase", "u", "", "", "i", 0.0, quantity=0.1)
    assert decode(encode(event), POSITION).quantity == np.float32(0.1)
