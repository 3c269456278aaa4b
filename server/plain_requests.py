"""Plain requests, a burst at a time: who asks, where, for how many, as of when, and nothing else.

That is what most requests say, and a message object, its fields one by one and their checks cost more than what the
engine does with them. One kernel walks over the bytes of all messages of a burst (protobuf.dev/programming-guides/
encoding) and hands out their texts and numbers as columns. A message is plain when every field of it is one of those
below, comes once, and needs no second look: texts of printable ASCII within their limit, numbers within range. Whatever
is not plain, wrong messages among them, is parsed and judged field by field (`server.decoding`): here nothing is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from twinrank.v1 import recommendation_pb2 as pb

from server.domain import RecommendQuery, RepeatPolicy, Shopper
from server.fields import TIMESTAMP_SECONDS_MAX
from towers.compiled import kernel

_REQUEST_ID, _PLACEMENT, _USER_ID = (
    pb.RecommendRequest.REQUEST_ID_FIELD_NUMBER,
    pb.RecommendRequest.PLACEMENT_FIELD_NUMBER,
    pb.RecommendRequest.USER_ID_FIELD_NUMBER,
)
_VISITOR_ID, _SESSION_ID = pb.RecommendRequest.VISITOR_ID_FIELD_NUMBER, pb.RecommendRequest.SESSION_ID_FIELD_NUMBER
_REQUEST_TIME, _PAGE_SIZE = pb.RecommendRequest.REQUEST_TIME_FIELD_NUMBER, pb.RecommendRequest.PAGE_SIZE_FIELD_NUMBER
_REPEAT_POLICY = pb.RecommendRequest.REPEAT_POLICY_FIELD_NUMBER
_VARINT, _LENGTH_DELIMITED = 0, 2
_VARINT_BITS_MAX = 35
"""Longer numbers are left to protobuf: negative ones, and what nobody asks for."""
_NANOS_MAX = 999_999_999
_SIZE_BYTES_MAX = 1_024
"""A longer message is not looked at here."""
_NOT_PLAIN = b"\0"
"""A field of number 0, which is never plain."""
_HAS_TIME, _SECONDS, _NANOS, _PAGE, _POLICY, _NUMBER_COUNT = range(6)
"""What is noted of a message besides its texts."""
_END_OF_TEXT = 0
"""Stands behind each text that is handed out; no text that is plain has it."""
_TEXT_COUNT = 4
"""Of the texts that are handed out: request id, placement, user id, visitor id."""


class PlacementLimits(NamedTuple):
    """What decoding needs of a placement's configuration."""

    page_size: int
    page_size_max: int
    repeat_policy: RepeatPolicy


PlainRequest = tuple[str, RecommendQuery]
"""The id that the caller gave, or an empty one, and what is asked: a bare tuple, since one is made of every request."""


class PlainRequests:
    """Decodes bursts under one configuration."""

    def __init__(
        self,
        placements: Mapping[str, PlacementLimits],
        default_placement: str,
        id_bytes_max: int,
        size_bytes_max: int,
        time_tolerance_s: float,
    ) -> None:
        """`size_bytes_max`: of a whole message. `time_tolerance_s`: how far from now a request's time may lie; infinite
        where replay is allowed."""
        self._placements = placements
        self._default_placement = default_placement
        self._id_bytes_max = id_bytes_max
        self._size_bytes_max = min(size_bytes_max, _SIZE_BYTES_MAX)
        self._time_tolerance_s = time_tolerance_s

    def decode(self, raws: Sequence[bytes], now_s: float) -> list[PlainRequest | None]:
        """For each RecommendRequest, as its bytes, what it asks; None where a second look is needed."""
        if not raws:
            return []
        size_bytes_max = self._size_bytes_max
        short = [raw if len(raw) <= size_bytes_max else _NOT_PLAIN for raw in raws]
        noted = scan_requests(
            np.frombuffer(b"".join(short), np.uint8),
            np.fromiter(accumulate(map(len, short)), np.int64, len(short)),
            self._id_bytes_max,
            now_s,
            self._time_tolerance_s,
        )
        texts = noted[0].tobytes().decode("ascii").split(chr(_END_OF_TEXT))
        request_ids, placements, user_ids, visitor_ids = (texts[place:-1:_TEXT_COUNT] for place in range(_TEXT_COUNT))
        requests: list[PlainRequest | None] = []
        for time_s, (plain, page_size, policy), request_id, placement, user_id, visitor_id in zip(
            noted[1].tolist(), noted[2].tolist(), request_ids, placements, user_ids, visitor_ids, strict=True
        ):
            limits = self._placements.get(placement or self._default_placement)
            if not plain or limits is None or page_size > limits.page_size_max:
                requests.append(None)
                continue
            query = RecommendQuery(
                placement or self._default_placement,
                Shopper(user_id, visitor_id),
                time_s,
                page_size or limits.page_size,
                _POLICIES[policy] or limits.repeat_policy,
            )
            requests.append((request_id, query))
        return requests


_POLICIES = (None, RepeatPolicy.ALLOW, RepeatPolicy.EXCLUDE_BOUGHT)
"""By their number on the wire; unspecified is the placement's own."""


def warm() -> None:
    """Compiles what requests need, or loads it from where it is kept."""
    scan_requests(np.frombuffer(_NOT_PLAIN, np.uint8), np.ones(1, np.int64), 1, 0.0, 0.0)


@kernel
def scan_requests(data: Any, ends: Any, id_bytes_max: Any, now_s: Any, time_tolerance_s: Any) -> Any:
    """What n messages say, one after the other in `data`, up to `ends` (n,).

    Returns (bytes,) uint8 the _TEXT_COUNT texts of each, with _END_OF_TEXT behind every one; (n,) float64 as of when it
    asks; (n, 3) int64 whether it is plain, its page size and its repeat policy. Of a message that is not plain the
    texts are empty, and the rest means nothing.
    """
    count = len(ends)
    texts, size = np.empty(len(data) + _TEXT_COUNT * count, np.uint8), np.int64(0)
    time_s, asked = np.full(count, now_s), np.zeros((count, 3), np.int64)
    spans, numbers = np.empty((_TEXT_COUNT, 2), np.int64), np.empty(_NUMBER_COUNT, np.int64)
    at = np.int64(0)
    for place in range(count):
        spans[:], numbers[:] = 0, 0
        if _scan(data, at, ends[place], id_bytes_max, spans, numbers):
            if numbers[_HAS_TIME]:
                time_s[place] = numbers[_SECONDS] + numbers[_NANOS] * 1e-9
            asked[place, 0] = abs(time_s[place] - now_s) <= time_tolerance_s
            asked[place, 1], asked[place, 2] = numbers[_PAGE], numbers[_POLICY]
        for text in range(_TEXT_COUNT):
            if asked[place, 0]:
                for byte in data[spans[text, 0] : spans[text, 1]]:
                    texts[size] = byte
                    size += 1
            texts[size] = _END_OF_TEXT
            size += 1
        at = ends[place]
    return texts[:size], time_s, asked


@kernel
def _scan(data: Any, at: Any, end: Any, id_bytes_max: Any, spans: Any, numbers: Any) -> Any:
    """Notes where the texts of one message stand, and its numbers; whether it is plain."""
    seen = np.int64(0)
    while at < end:
        tag = np.int64(data[at])
        at += 1
        number, kind = tag >> 3, tag & 7
        if tag >= 0x80 or seen & 1 << number:  # fields beyond 15, and those that come twice
            return False
        seen |= 1 << number
        value, at = _varint(data, at, end)
        if value < 0:
            return False
        if kind == _VARINT:
            if number == _PAGE_SIZE:
                numbers[_PAGE] = value
            elif number == _REPEAT_POLICY and value <= 2:
                numbers[_POLICY] = value
            else:
                return False
            continue
        if kind != _LENGTH_DELIMITED or value > end - at:
            return False
        behind = at + value
        if number == _REQUEST_TIME:
            if not _scan_time(data, at, behind, numbers):
                return False
        elif number in (_REQUEST_ID, _PLACEMENT, _USER_ID, _VISITOR_ID):
            if not _is_plain_text(data, at, behind, id_bytes_max):
                return False
            spans[number - _REQUEST_ID, 0], spans[number - _REQUEST_ID, 1] = at, behind
        elif number != _SESSION_ID or not _is_plain_text(data, at, behind, id_bytes_max):
            return False
        at = behind
    return True


@kernel
def _scan_time(data: Any, at: Any, end: Any, numbers: Any) -> Any:
    """Notes a Timestamp; whether it is one that a request may have."""
    numbers[_HAS_TIME] = 1
    while at < end:
        tag = data[at]
        value, at = _varint(data, at + 1, end)
        if tag == 0x08 and 0 <= value <= TIMESTAMP_SECONDS_MAX and numbers[_SECONDS] == 0:
            numbers[_SECONDS] = value
        elif tag == 0x10 and 0 <= value <= _NANOS_MAX and numbers[_NANOS] == 0:
            numbers[_NANOS] = value
        else:
            return False
    return True


@kernel
def _varint(data: Any, at: Any, end: Any) -> Any:
    """A number and what stands behind it; -1 where it is cut off or has more than _VARINT_BITS_MAX bits."""
    value, shift = np.int64(0), np.int64(0)
    while at < end and shift < _VARINT_BITS_MAX:
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return np.int64(-1), at


@kernel
def _is_plain_text(data: Any, at: Any, end: Any, bytes_max: Any) -> Any:
    """Printable ASCII within the limit."""
    plain = end - at <= bytes_max
    for byte in data[at:end]:
        plain &= 0x20 <= byte <= 0x7E
    return plain
