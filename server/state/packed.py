"""The packed state: one value a shopper, written by `append.lua` in the store and read here, many at once.

    header   32 bytes, little endian: version, ids, deeds, signals u16, last_ms, purged_ms f64, zeros u64
    ids      u64 each: XXH3 of the client's event id, oldest first
    deeds    Record each, oldest arrival first: purchases, ratings, changes of the cart
    signals  Record each: views, clicks

Events stand in the order of their arrival. Numbers come out of the scripts as doubles, hence the f64.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

VERSION = 1
HEADER = struct.Struct("<HHHHddQ")
RECORD = struct.Struct("<dQIIIf")
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


def unpack(values: Sequence[bytes | None]) -> PackedStates:
    """Reads S values as they come from the store; None is a shopper of whom nothing is known. Raises StateInvalid."""
    offsets = np.zeros(len(values) + 1, np.int64)
    last_ms, purged_ms = np.zeros(len(values)), np.zeros(len(values))
    parts: list[bytes] = []
    total = 0
    for place, value in enumerate(values):
        if value:
            if len(value) < HEADER.size:
                raise StateInvalid(f"a state of {len(value)} bytes has no header")
            version, ids, deeds, signals, last_ms[place], purged_ms[place], _ = HEADER.unpack_from(value)
            count = deeds + signals
            begin = HEADER.size + 8 * ids
            if version != VERSION or len(value) != begin + RECORD.size * count:
                raise StateInvalid(
                    f"a state of version {version} with {ids} ids and {count} events has {len(value)} bytes; expected "
                    f"version {VERSION} and {begin + RECORD.size * count} bytes"
                )
            parts.append(value[begin:])
            total += count
        offsets[place + 1] = total
    return PackedStates(offsets, np.frombuffer(b"".join(parts), RECORD_DTYPE), last_ms, purged_ms)
