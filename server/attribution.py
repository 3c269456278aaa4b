"""The attribution token: what an answer hands out so that later events can be tied to the list that caused them.

base64url without padding of `version u8 | request time in ms u64 | request id | generation id | placement`, each text
with its length in front as u8, big-endian. It is opaque to callers and no secret: it holds nothing that the caller does
not know.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

VERSION = 1
_HEAD = struct.Struct(">BQ")


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
        request_id = self.request_id.encode()[:255]
        generation_id = self.generation_id.encode()[:255]
        placement = self.placement.encode()[:255]
        packed = b"".join(
            (
                _HEAD.pack(VERSION, int(self.request_time_s * 1000)),
                bytes((len(request_id),)),
                request_id,
                bytes((len(generation_id),)),
                generation_id,
                bytes((len(placement),)),
                placement,
            )
        )
        return urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")

    @classmethod
    def decode(cls, text: str) -> AttributionToken:
        """The token back from an event. Raises `TokenError` for anything that `encode` did not write."""
        try:
            packed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            version, time_ms = _HEAD.unpack_from(packed)
            texts = []
            offset = _HEAD.size
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
