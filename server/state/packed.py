"""The packed state: one value a shopper, written by `append.lua` in the store and read here, many at once.

    header   32 bytes, little endian: version; room for ids, deeds, signals u16; last_ms, purged_ms f64; ids, deeds,
             signals that came u16; zeros u16
    ids      u64 each: XXH3 of the client's event id
    deeds    Record each: purchases, ratings, changes of the cart
    signals  Record each: views, clicks

Each section is a ring, so that an event is written in place: with room for r, the n-th that came lies at n % r. Beyond
r the numbers stand for «r and so many more» and begin again at r when they reach 2r. In version 1 sections held just
what their room says, oldest first.

`unpack` gives each section oldest first. Numbers come out of the scripts as doubles, hence the f64.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import xxhash
from numpy.typing import NDArray

from towers.compiled import kernel

VERSION = 2
HEADER = struct.Struct("<HHHHddHHHH")
RECORD = struct.Struct("<dQIIIf")
_WORD = 8
"""Bytes; everything in a state takes some of these, an id one."""
_HEADER_SIZE, _RECORD_WORDS = HEADER.size, RECORD.size // _WORD
RECORD_DTYPE = np.dtype(
    [
        ("position_ms", "<f8"),
        ("item_hash", "<u8"),
        ("time_s", "<u4"),
        ("session_hash", "<u4"),
        ("type_hash", "<u4"),
        ("quantity", "<f4"),
    ]
)
"""One event: when it came into the log (milliseconds of the store's clock), and what it was; 0 for what it has not."""


def item_hash(item_id: str) -> int:
    """Unsigned 64-bit XXH3, as in `index.item_ids`; 0 for no item."""
    return xxhash.xxh3_64_intdigest(item_id.encode("utf-8", "surrogatepass")) if item_id else 0


def event_id_hash(event_id: str) -> int:
    """Unsigned 64-bit XXH3 of a client's event id."""
    return xxhash.xxh3_64_intdigest(event_id.encode("utf-8", "surrogatepass"))


def type_hash(event_type: str) -> int:
    """Unsigned 32-bit XXH32 of an event type's name."""
    return xxhash.xxh32_intdigest(event_type.encode("utf-8", "surrogatepass"))


def session_hash(session_id: str) -> int:
    """Unsigned 32-bit XXH32 of a session's id; 0 for none."""
    return xxhash.xxh32_intdigest(session_id.encode("utf-8", "surrogatepass")) if session_id else 0


class StateInvalid(ValueError):
    """A value in the store that is no packed state; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PackedStates:
    """The states of S shoppers; E events in all, those of a shopper in no order of time.

    Attributes:
        offsets: (S + 1,) where each shopper's events begin.
        events: (E,) of RECORD_DTYPE.
        last_ms: (S,) the position of the newest written event, 0 where nothing is known.
        purged_ms: (S,) when the person was purged, 0 where never.
    """

    offsets: NDArray[np.int64]
    events: NDArray[np.void]
    last_ms: NDArray[np.float64]
    purged_ms: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.last_ms)


def holds_events(header: bytes) -> bool:
    """Whether a state that begins with these bytes has deeds or signals, and not only what ids it knows."""
    if len(header) < HEADER.size:  # nothing, or nothing of ours
        return False
    version, _, deeds_room, signals_room, _, _, _, deeds, signals, _ = HEADER.unpack_from(header)
    return bool(deeds_room or signals_room) if version == 1 else bool(deeds or signals)


def unpack(values: Sequence[bytes | None]) -> PackedStates:
    """Reads S values as they come from the store; None is a shopper of whom nothing is known. Raises StateInvalid."""
    found = [value or b"" for value in values]
    lengths = list(map(len, found))
    whole = b"".join(found)
    ends = np.fromiter(accumulate(lengths, initial=0), np.int64, len(found) + 1)
    offsets = np.zeros(len(found) + 1, np.int64)
    times_ms = np.zeros((2, len(found)))
    words = np.frombuffer(whole, np.uint64, len(whole) // _WORD)
    records = np.empty(len(words), np.uint64)
    invalid = _unroll(words, ends, offsets, times_ms, records)
    if invalid >= 0:
        raise StateInvalid(_what_is_wrong(found[invalid]))
    return PackedStates(offsets, records[: _RECORD_WORDS * offsets[-1]].view(RECORD_DTYPE), *times_ms)


def _what_is_wrong(value: bytes) -> str:
    if len(value) < HEADER.size:
        return f"a state of {len(value)} bytes has no header"
    version, ids_room, deeds_room, signals_room, *_ = HEADER.unpack_from(value)
    expected = HEADER.size + _WORD * ids_room + RECORD.size * (deeds_room + signals_room)
    return (
        f"a state of version {version} with room for {ids_room} ids and {deeds_room + signals_room} events has "
        f"{len(value)} bytes; expected version 1 or {VERSION} and {expected} bytes"
    )


@kernel
def _unroll(
    words: NDArray[np.uint64],
    ends: NDArray[np.int64],
    offsets: NDArray[np.int64],
    times_ms: NDArray[np.float64],
    records: NDArray[np.uint64],
) -> int:
    """Checks S states that stand one after the other, and copies their records out, oldest first.

    Args:
        words: what whole states are made of; state s lies at the bytes ends[s] to ends[s + 1].
        ends: (S + 1,).
        offsets, times_ms: (S + 1,) and (2, S) zeros, filled with what `PackedStates` has.
        records: room for as many words, filled with the records.

    Returns:
        The place of a value that is no state; -1 when all are.
    """
    count = 0
    for place in range(len(ends) - 1):
        begin, size = ends[place] // _WORD, ends[place + 1] - ends[place]
        if size > 0:
            if size < _HEADER_SIZE or ends[place] % _WORD or size % _WORD:
                return place
            rooms, totals = words[begin], words[begin + 3]
            version, at = _u16(rooms, 0), begin + _HEADER_SIZE // _WORD + _u16(rooms, 1)
            if version != 1 and version != VERSION:
                return place
            if begin + size // _WORD != at + _RECORD_WORDS * (_u16(rooms, 2) + _u16(rooms, 3)):
                return place
            times_ms[0, place], times_ms[1, place] = words[begin + 1 : begin + 3].view(np.float64)
            for section in range(2):
                room = _u16(rooms, 2 + section)
                total = _u16(totals, 1 + section) if version == VERSION else room
                oldest = total % room if total > room else 0
                source, end = at + _RECORD_WORDS * oldest, at + _RECORD_WORDS * room
                for _ in range(min(total, room)):
                    for word in range(_RECORD_WORDS):
                        records[count + word] = words[source + word]
                    count += _RECORD_WORDS
                    source += _RECORD_WORDS
                    if source == end:
                        source = at
                at = end
        offsets[place + 1] = count // _RECORD_WORDS
    return -1


@kernel
def _u16(word: int, place: int) -> int:
    return int(word >> np.uint64(16 * place)) & 0xFFFF
