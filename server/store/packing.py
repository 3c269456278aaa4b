"""Commands packed in the store's own protocol: for what is sent often, quicker than the library's general way."""

from __future__ import annotations


def argument(value: bytes) -> bytes:
    """One argument of a command."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def command(*values: bytes) -> bytes:
    """One command."""
    return b"*%d\r\n" % len(values) + b"".join(map(argument, values))
