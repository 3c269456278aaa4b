"""The attribution token: what an answer hands out so that later events can be tied to the list that caused them.

base64url without padding of `version u8 | generation id | placement | request id | request time in ms u64`, each text
with its length in front as u8, big-endian. What most lists share comes first, so that it is encoded once. It is opaque
to callers and no secret: it holds nothing that the caller does not know.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from dataclasses import dataclass
from functools import lru_cache

VERSION = 1
TEXT_SIZE_BYTES_MAX = 255
_TIME = struct.Struct(">Q")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class TokenError(ValueError):
    """The text is no attribution token that this version reads."""


@dataclass(frozen=True, slots=True)
class AttributionToken:
    """Which list: the request, the generation that answered, the placement, and as of when (seconds, kept to 1 ms)."""

    request_id: str
    generation_id: str
    placement: str
    request_time_s: float

    def encode(self) -> str:
        """The token as it goes into a response. Texts longer than 255 UTF-8 bytes are cut."""
        return encode_token(self.request_id, self.generation_id, self.placement, self.request_time_s).decode("ascii")

    @classmethod
    def decode(cls, text: str) -> AttributionToken:
        """The token back from an event. Raises `TokenError` for anything that `encode` did not write."""
        try:
            packed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            version, offset = packed[0], 1
            texts = []
            for _ in range(3):
                end = offset + 1 + packed[offset]
                if end > len(packed):
                    raise IndexError
                texts.append(packed[offset + 1 : end].decode())
                offset = end
            (time_ms,) = _TIME.unpack(packed[offset:])
        except (ValueError, struct.error, IndexError) as error:
            raise TokenError("this is no attribution token") from error
        if version != VERSION:
            raise TokenError(f"this is no attribution token of version {VERSION}")
        generation_id, placement, request_id = texts
        return cls(request_id, generation_id, placement, time_ms / 1000)


def encode_token(request_id: str, generation_id: str, placement: str, request_time_s: float) -> bytes:
    """As `AttributionToken.encode`, in ASCII, for the hot path: what most lists share is made once."""
    shared, rest = same_for_many(generation_id, placement)
    request = request_id.encode()[:TEXT_SIZE_BYTES_MAX]
    own = b"%b%c%b%b" % (rest, len(request), request, _TIME.pack(int(request_time_s * 1000)))
    return shared + b2a_base64(own, newline=False).translate(_URL_SAFE, b"=")


@lru_cache(maxsize=256)
def same_for_many(generation_id: str, placement: str) -> tuple[bytes, bytes]:
    """The beginning of a token, and what of it is too short for base64; a server has few placements and generations."""
    begin = bytes((VERSION,)) + b"".join(
        bytes((len(text),)) + text
        for text in (encoded.encode()[:TEXT_SIZE_BYTES_MAX] for encoded in (generation_id, placement))
    )
    whole = len(begin) - len(begin) % 3  # three bytes make four characters
    return b2a_base64(begin[:whole], newline=False).translate(_URL_SAFE), begin[whole:]
