"""The few pieces of protobuf's wire format that the hot path writes itself; protobuf reads them as its own.

A message is its fields in any order, one after the other, so that what protobuf serialised and what is written here may
simply be joined (protobuf.dev/programming-guides/encoding). Written here is what costs protobuf's Python most: fields
that every response has, and responses inside responses, which it would copy. `list_wire` writes the columns.
"""

from __future__ import annotations

_LENGTH_DELIMITED = 2


def embedded(field_number: int, payload: bytes) -> bytes:
    """A field that holds a message, given as its bytes. `field_number` is at most 15."""
    return _head(field_number, len(payload)) + payload


def text_field(field_number: int, encoded: bytes) -> bytes:
    """A `string` field, given as its UTF-8; nothing when it is empty, as protobuf writes it."""
    size_bytes = len(encoded)
    if size_bytes < 0x80:
        return _SHORT_HEADS[field_number][size_bytes] + encoded if size_bytes else b""
    return _head(field_number, size_bytes) + encoded


def tag(field_number: int) -> int:
    """What stands before a field that has a length. `field_number` is at most 15."""
    return field_number << 3 | _LENGTH_DELIMITED


def _head(field_number: int, size_bytes: int) -> bytes:
    head = bytearray((tag(field_number),))
    while size_bytes >= 0x80:
        head.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    head.append(size_bytes)
    return bytes(head)


_SHORT_HEADS = [[bytes((tag(number), size)) for size in range(0x80)] for number in range(16)]
"""By field number and length: a look-up costs a fifth of making it."""
