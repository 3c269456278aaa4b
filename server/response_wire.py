"""Whole RecommendResponses of a batch as protobuf's bytes, all at once: what `encode_recommend` writes of each.

request id | ids, scores and sources (`list_wire`) | attribution token (`attribution`) | generation id
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.attribution import TEXT_SIZE_BYTES_MAX, same_for_many
from server.list_wire import HEAD_SIZE_BYTES_MAX, WrittenColumns, measure_lists, put_head, put_list
from server.lists import ListColumns
from towers.compiled import kernel

_TIME_SIZE_BYTES = 8
_REST_SIZE_BYTES_MAX = 2
"""What of a token's shared part is too short for base64."""
_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)


class ResponseFields(NamedTuple):
    """How the fields of a response are written.

    Attributes:
        own_tags: (2,) of the request id and the token, which differ from response to response.
        list_tags: (3,) of the ids, the scores and the sources. source_of_bits: (2^n,) the source of a set of flags.
    """

    own_tags: NDArray[np.uint8]
    list_tags: NDArray[np.uint8]
    source_of_bits: NDArray[np.uint8]


class SharedFields(NamedTuple):
    """What responses of one generation and placement share.

    Attributes:
        token_begin, token_rest: (bytes,) uint8 as `attribution.same_for_many` has them.
        generation_field: (bytes,) uint8, at the end of each response.
    """

    token_begin: NDArray[np.uint8]
    token_rest: NDArray[np.uint8]
    generation_field: NDArray[np.uint8]

    @classmethod
    def of(cls, generation_id: str, placement: str, generation_field: bytes) -> SharedFields:
        """As arrays."""
        token_begin, token_rest = same_for_many(generation_id, placement)
        return cls(*(np.frombuffer(part, np.uint8) for part in (token_begin, token_rest, generation_field)))


def written_responses(
    fields: ResponseFields,
    shared: SharedFields,
    lists: ListColumns,
    places: Sequence[int],
    request_ids: Sequence[bytes],
    times_s: Sequence[float],
) -> list[bytes | None]:
    """The response to each of n requests; None for a list that is not fit to be sent.

    Args:
        fields, shared: how fields are written, and those that all n have.
        lists: the batch's. places: (n,) which of them each request gets.
        request_ids: (n,) UTF-8, cut in the token as `encode_token` does.
        times_s: (n,) as of when each request asks, seconds since the epoch.
    """
    data, ends, fit = write_responses(
        fields,
        shared,
        WrittenColumns.of(lists),
        np.array(places),
        np.frombuffer(b"".join(request_ids), np.uint8),
        np.fromiter(accumulate(map(len, request_ids)), np.int64, len(request_ids)),
        np.array(times_s),
        _ALPHABET,
    )
    whole, begin = data.tobytes(), 0
    responses: list[bytes | None] = []
    for end, is_fit in zip(ends.tolist(), fit.tolist(), strict=True):
        responses.append(whole[begin:end] if is_fit else None)
        begin = end
    return responses


def warm() -> None:
    """Compiles what answers need, or loads it from where it is kept."""
    fields = ResponseFields(np.zeros(2, np.uint8), np.zeros(3, np.uint8), np.zeros(1, np.uint8))
    shared = SharedFields.of("-", "-", b"-")
    written_responses(fields, shared, ListColumns.of(["-"], [0.0], [0]), [0], [b"-"], [0.0])


@kernel
def write_responses(
    fields: Any,
    shared: Any,
    columns: Any,
    places: Any,
    request_text: Any,
    request_ends: Any,
    times_s: Any,
    alphabet: Any,
) -> Any:
    """(bytes,) uint8 response after response, (n,) int64 where each ends, (n,) bool whether it is fit to be sent.

    `fields`, `shared`, `columns`: ResponseFields, SharedFields, WrittenColumns. `places` (n,) int64. `request_text`
    (bytes,) uint8, one id after the other, up to `request_ends` (n,) int64. `times_s` (n,) float64. `alphabet` (64,)
    uint8.
    """
    own_tags, list_tags, source_of_bits = fields
    token_begin, token_rest, generation_field = shared
    fit, size_max = measure_lists(columns, places)
    token_size_max = len(token_begin) + 4 * (_REST_SIZE_BYTES_MAX + 1 + TEXT_SIZE_BYTES_MAX + _TIME_SIZE_BYTES) // 3 + 1
    size_max += len(request_text) + len(places) * (2 * HEAD_SIZE_BYTES_MAX + token_size_max + len(generation_field))
    out, ends = np.empty(size_max, np.uint8), np.empty(len(places), np.int64)
    own = np.empty(_REST_SIZE_BYTES_MAX + 1 + TEXT_SIZE_BYTES_MAX + _TIME_SIZE_BYTES, np.uint8)
    at, request_begin = np.int64(0), np.int64(0)
    for number, place in enumerate(places):
        request_end = request_ends[number]
        if fit[number]:
            size = request_end - request_begin
            if size:
                at = put_head(out, at, own_tags[0], size)
                at = _put(out, at, request_text[request_begin:request_end])
            at = put_list(out, at, columns, place, list_tags, source_of_bits)
            own_size = _put(own, 0, token_rest)
            own[own_size] = min(size, TEXT_SIZE_BYTES_MAX)
            own_size = _put(own, own_size + 1, request_text[request_begin : request_begin + own[own_size]])
            time_ms = np.int64(times_s[number] * 1000)
            for byte in range(_TIME_SIZE_BYTES):
                own[own_size] = (time_ms >> 8 * (_TIME_SIZE_BYTES - 1 - byte)) & 0xFF
                own_size += 1
            at = put_head(out, at, own_tags[1], len(token_begin) + (4 * own_size + 2) // 3)
            at = _put(out, at, token_begin)
            at = _put_base64(out, at, own[:own_size], alphabet)
            at = _put(out, at, generation_field)
        ends[number], request_begin = at, request_end
    return out, ends, fit


@kernel
def _put(out: Any, at: Any, data: Any) -> Any:
    """Copies bytes; where they end."""
    for byte in data:
        out[at] = byte
        at += 1
    return at


@kernel
def _put_base64(out: Any, at: Any, data: Any, alphabet: Any) -> Any:
    """Writes base64url without padding; where it ends."""
    size = len(data)
    for begin in range(0, size, 3):
        bits, count = np.int64(0), min(size - begin, 3)
        for byte in range(3):
            bits = bits << 8 | (np.int64(data[begin + byte]) if byte < count else 0)
        for character in range(count + 1):
            out[at] = alphabet[bits >> (18 - 6 * character) & 63]
            at += 1
    return at
