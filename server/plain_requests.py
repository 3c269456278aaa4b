"""Plain requests, a burst at a time: who asks, where, for how many, as of when, and nothing else.

That is what most requests say, and a message object, its fields one by one and their checks cost more than what the
engine does with them. One kernel walks over the bytes of all messages of a burst (protobuf.dev/programming-guides/
encoding) and notes where each text stands. A message is plain when every field of it is one of those below, comes
once, and needs no second look: texts of printable ASCII within their limit, numbers within range. Whatever is not
plain, wrong messages among them, is parsed and judged field by field (`server.decoding`): here nothing is refused.
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
_PLAIN, _TEXTS, _HAS_TIME, _SECONDS, _NANOS, _PAGE, _POLICY, _COLUMNS = 0, 1, 9, 10, 11, 12, 13, 14
"""Columns of what is noted of a message; _TEXTS: begin and end of request id, placement, user id, visitor id."""


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
        size_bytes_max = self._size_bytes_max
        short = [raw if len(raw) <= size_bytes_max else _NOT_PLAIN for raw in raws]
        data = b"".join(short)
        ends = np.fromiter(accumulate(map(len, short)), np.int64, len(short))
        noted = scan_requests(np.frombuffer(data, np.uint8), ends, self._id_bytes_max)
        text = data.decode("latin-1")  # a byte is a character; what is cut out is ASCII
        return [self._query(text, line, now_s) if line[_PLAIN] else None for line in noted.tolist()]

    def _query(self, text: str, noted: list[int], now_s: float) -> PlainRequest | None:
        (_, request_at, request_end, placement_at, placement_end, user_at, user_end, visitor_at, visitor_end,
         has_time, seconds, nanos, page_size, policy) = noted  # fmt: skip
        placement = text[placement_at:placement_end] or self._default_placement
        limits = self._placements.get(placement)
        if limits is None or page_size > limits.page_size_max:
            return None
        time_s = now_s
        if has_time:
            time_s = seconds + nanos * 1e-9
            if abs(time_s - now_s) > self._time_tolerance_s:
                return None
        query = RecommendQuery(
            placement,
            Shopper(text[user_at:user_end], text[visitor_at:visitor_end]),
            time_s,
            page_size or limits.page_size,
            _POLICIES[policy] or limits.repeat_policy,
        )
        return text[request_at:request_end], query


_POLICIES = (None, RepeatPolicy.ALLOW, RepeatPolicy.EXCLUDE_BOUGHT)
"""By their number on the wire; unspecified is the placement's own."""


def warm() -> None:
    """Compiles what requests need, or loads it from where it is kept."""
    scan_requests(np.frombuffer(_NOT_PLAIN, np.uint8), np.ones(1, np.int64), 1)


@kernel
def scan_requests(data: Any, ends: Any, id_bytes_max: Any) -> Any:
    """(n, _COLUMNS) int64: what stands where in n messages, one after the other in `data`, up to `ends` (n,).

    The columns mean nothing where the first is 0: such a message is not plain.
    """
    noted = np.zeros((len(ends), _COLUMNS), np.int64)
    at = np.int64(0)
    for place in range(len(ends)):
        line, end = noted[place], ends[place]
        line[_PLAIN] = _scan(data, at, end, id_bytes_max, line)
        at = end
    return noted


@kernel
def _scan(data: Any, at: Any, end: Any, id_bytes_max: Any, line: Any) -> Any:
    """Notes one message; 1 if it is plain, else 0."""
    seen = np.int64(0)
    while at < end:
        tag = np.int64(data[at])
        at += 1
        number, kind = tag >> 3, tag & 7
        if tag >= 0x80 or seen & 1 << number:  # fields beyond 15, and those that come twice
            return 0
        seen |= 1 << number
        value, at = _varint(data, at, end)
        if value < 0:
            return 0
        if kind == _VARINT:
            if number == _PAGE_SIZE:
                line[_PAGE] = value
            elif number == _REPEAT_POLICY and value <= 2:
                line[_POLICY] = value
            else:
                return 0
            continue
        if kind != _LENGTH_DELIMITED or value > end - at:
            return 0
        behind = at + value
        if number == _REQUEST_TIME:
            if not _scan_time(data, at, behind, line):
                return 0
        elif number in (_REQUEST_ID, _PLACEMENT, _USER_ID, _VISITOR_ID):
            if not _is_plain_text(data, at, behind, id_bytes_max):
                return 0
            column = _TEXTS + 2 * (number - _REQUEST_ID)
            line[column], line[column + 1] = at, behind
        elif number != _SESSION_ID or not _is_plain_text(data, at, behind, id_bytes_max):
            return 0
        at = behind
    return 1


@kernel
def _scan_time(data: Any, at: Any, end: Any, line: Any) -> Any:
    """Notes a Timestamp; whether it is one that a request may have."""
    line[_HAS_TIME] = 1
    while at < end:
        tag = data[at]
        value, at = _varint(data, at + 1, end)
        if tag == 0x08 and 0 <= value <= TIMESTAMP_SECONDS_MAX and line[_SECONDS] == 0:
            line[_SECONDS] = value
        elif tag == 0x10 and 0 <= value <= _NANOS_MAX and line[_NANOS] == 0:
            line[_NANOS] = value
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
