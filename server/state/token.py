"""The position token: what WriteEvents returns, and what a request carries to be sure that its answer saw those events.

Opaque to callers. It holds the place of the newest written event in the log; the state of the same shopper has seen it
when its own newest place is not older.
"""

from __future__ import annotations

import base64
import binascii
import struct

_LAYOUT = struct.Struct("<Bd")
_VERSION = 1


class TokenInvalid(ValueError):
    """Not a token that this server made; the message says why."""


def make_token(last_ms: float) -> str:
    """The token of a place in the log, in milliseconds of the store's clock."""
    return base64.urlsafe_b64encode(_LAYOUT.pack(_VERSION, last_ms)).decode("ascii")


def read_token(token: str) -> float:
    """The place that the token names. Raises TokenInvalid."""
    try:
        data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        version, last_ms = _LAYOUT.unpack(data)
    except (UnicodeEncodeError, binascii.Error, struct.error) as error:
        raise TokenInvalid("is no position token") from error
    if version != _VERSION or not 0 <= last_ms < 2**53:
        raise TokenInvalid("is a position token of another version")
    return float(last_ms)
