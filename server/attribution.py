"""The attribution token: what an answer hands out so that later events can be tied to the list that caused them.

base64url without padding of `version u8 | request time in ms u64 | request id | generation id | placement`, each text
with its length in front as u8, big-endian. It is opaque to callers and no secret: it holds nothing that the caller does
not know.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from dataclasses import dataclass
from functools import lru_cache

VERSION = 1
TEXT_SIZE_BYTES_MAX = 255
_HEAD = struct.Struct(">BQB")
"""Version, request time, and the length of the request id, which follows."""
_TEXTS_BEGIN = _HEAD.size - 1
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
        return encode_token(self.request_id, self.generation_id, self.placement, self.request_time_s)

    @classmethod
    def decode(cls, text: str) -> AttributionToken:
        """The token back from an event. Raises `TokenError` for anything that `encode` did not write."""
        try:
            packed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            version, time_ms, _ = _HEAD.unpack_from(packed)
            texts = []
            offset = _TEXTS_BEGIN
            for _ in range(3):
                end = offset + 1 + packed[offset]
                if end > len(packed):
                    raise IndexError
                texts.append(packed[offset + 1 : end].decode())
                offset = end
        except (ValueError, struct.error, IndexError) as error:
            raise TokenError("this is no attribution token") from error
        if version != VERSION or offset != len(packed):
            raise TokenError(f"this is no attribution token of version {VERSION}")
        request_id, generation_id, placement = texts
        return cls(request_id, generation_id, placement, time_ms / 1000)


def encode_token(request_id: str, generation_id: str, placement: str, request_time_s: float) -> str:
    """As `AttributionToken.encode`, for the hot path: what most lists share is made once."""
    request = request_id.encode()[:TEXT_SIZE_BYTES_MAX]
    head = _HEAD.pack(VERSION, int(request_time_s * 1000), len(request))
    packed = head + request + _same_for_many(generation_id, placement)
    return b2a_base64(packed, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


@lru_cache(maxsize=256)
def _same_for_many(generation_id: str, placement: str) -> bytes:
    """The end of a token; a server has a few placements and generations."""
    return b"".join(_with_length(text.encode()[:TEXT_SIZE_BYTES_MAX]) for text in (generation_id, placement))


def _with_length(text: bytes) -> bytes:
    return bytes((len(text),)) + text
