"""The few pieces of protobuf's wire format that the hot path writes itself; protobuf reads them as its own.

A message is its fields in any order, one after the other, so that what protobuf serialised and what is written here may
simply be joined (protobuf.dev/programming-guides/encoding). Written here is what costs protobuf's Python most: columns
of numbers, which it takes value by value, and responses inside responses, which it would copy.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

_LENGTH_DELIMITED = 2


def embedded(field_number: int, payload: bytes) -> bytes:
    """A field that holds a message, given as its bytes. `field_number` is at most 15."""
    return _head(field_number, len(payload)) + payload


def packed_floats(field_number: int, values: Sequence[float]) -> bytes:
    """A `repeated float` field; nothing when it is empty. Raises `OverflowError` for a value that no float32 holds."""
    if not values:
        return b""
    return _head(field_number, 4 * len(values)) + _floats(len(values)).pack(*values)


def packed_small(field_number: int, values: bytes) -> bytes:
    """A repeated field of enums or integers, one byte each and below 128; nothing when it is empty."""
    return _head(field_number, len(values)) + values if values else b""


@lru_cache(maxsize=256)
def _floats(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}f")


def _head(field_number: int, size_bytes: int) -> bytes:
    tag = field_number << 3 | _LENGTH_DELIMITED
    if size_bytes < 0x80:
        return bytes((tag, size_bytes))
    head = bytearray((tag,))
    while size_bytes >= 0x80:
        head.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    head.append(size_bytes)
    return bytes(head)
