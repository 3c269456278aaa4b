"""Domain in, protobuf's bytes out: columns, no nested item messages, since they are what a list costs on the wire."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from twinrank.v1 import recommendation_pb2 as pb

from server.attribution import encode_token
from server.domain import (
    Answer,
    FilterRefused,
    ItemExplanation,
    Query,
    RecommendAnswer,
    RecommendQuery,
    ScoreAnswer,
    SimilarItemsAnswer,
    SimilarItemsQuery,
    Source,
    StateGap,
)
from server.errors import EngineFault, InvalidRequest, Violation
from server.list_wire import written_lists
from server.lists import ListColumns
from server.response_wire import ResponseFields, SharedFields, written_responses
from server.waiting import Answered
from server.wire import embedded, tag, text_field
from towers.sources.settings import FURTHER

_WIRE_OF_SOURCE: dict[
    Source, pb.CandidateSource
] = {  # what says most about the shopper comes first, and is named where several sources agree
    Source.BUY_AGAIN: pb.CANDIDATE_SOURCE_BUY_AGAIN,
    Source.SIMILAR: pb.CANDIDATE_SOURCE_SIMILAR,
    Source.TWO_TOWER: pb.CANDIDATE_SOURCE_TWO_TOWER,
    **{Source[name.upper()]: getattr(pb, f"CANDIDATE_SOURCE_{name.upper()}") for name in FURTHER},
    Source.POPULAR: pb.CANDIDATE_SOURCE_POPULAR,
}


@cache
def _sources_of(bits: int) -> list[pb.CandidateSource]:
    """All sources of a set of flags, the one that is named first; few sets ever come."""
    return [wire for flag, wire in _WIRE_OF_SOURCE.items() if bits & flag] or [pb.CANDIDATE_SOURCE_UNSPECIFIED]


def _first_sources() -> NDArray[np.uint8]:
    """(2^n,) the source that is named first, for every set of flags."""
    bits = np.arange(2 * max(_WIRE_OF_SOURCE))
    first = np.full(len(bits), pb.CANDIDATE_SOURCE_UNSPECIFIED, np.uint8)
    for flag, wire in reversed(_WIRE_OF_SOURCE.items()):
        first[bits & flag > 0] = wire
    return first


_FIRST_SOURCES = _first_sources()
_WIRE_OF_GAP = {
    StateGap.UNAVAILABLE: pb.DEGRADED_REASON_STATE_UNAVAILABLE,
    StateGap.BEHIND_POSITION: pb.DEGRADED_REASON_BEHIND_POSITION,
}
_TAGS = np.array(
    [
        tag(pb.RecommendResponse.ITEM_IDS_FIELD_NUMBER),
        tag(pb.RecommendResponse.SCORES_FIELD_NUMBER),
        tag(pb.RecommendResponse.SOURCES_FIELD_NUMBER),
    ],
    np.uint8,
)
_REQUEST_ID_FIELD = pb.RecommendResponse.REQUEST_ID_FIELD_NUMBER
_TOKEN_FIELD = pb.RecommendResponse.ATTRIBUTION_TOKEN_FIELD_NUMBER
_GENERATION_ID_FIELD = pb.RecommendResponse.GENERATION_ID_FIELD_NUMBER
_RESPONSES_FIELD = pb.BatchRecommendResponse.RESPONSES_FIELD_NUMBER
_STREAM_RESPONSE_FIELD = pb.StreamRecommendResponse.RESPONSE_FIELD_NUMBER
_UINT32_MAX = 2**32 - 1
_UNFIT = "a score is not a finite number, or a place has no item"
_FIELDS = ResponseFields(np.array([tag(_REQUEST_ID_FIELD), tag(_TOKEN_FIELD)], np.uint8), _TAGS, _FIRST_SOURCES)


def encode_recommend(request_id: str, query: RecommendQuery, answered: Answered, *, timings: bool) -> bytes:
    """The list of one query as a RecommendResponse, with the token that ties later events to it."""
    answer = answered.answer
    if not isinstance(answer, RecommendAnswer):
        raise _no_answer(answer, RecommendQuery)
    generation_id = answer.generation_id
    token = encode_token(request_id, generation_id, query.placement, query.request_time_s)
    usual = (
        text_field(_REQUEST_ID_FIELD, request_id.encode()),
        _columns(answer),
        text_field(_TOKEN_FIELD, token),
        _generation_id(generation_id),
    )
    if answer.shortfall or answer.gap or timings or query.explain:
        return b"".join((*usual, _unusual(query, answer, answered if timings else None)))
    return b"".join(usual)


def encode_recommends(
    request_ids: Sequence[str], queries: Sequence[RecommendQuery], answers: Sequence[Answer]
) -> list[bytes | Exception]:
    """As `encode_recommend` of each, without timings and explanations, at a fraction of its cost; or the error that it
    would raise."""
    encoded: list[bytes | Exception] = []
    alike: defaultdict[tuple[ListColumns, str, str], list[tuple[int, RecommendAnswer]]] = defaultdict(list)
    for number, (query, answer) in enumerate(zip(queries, answers, strict=True)):
        if isinstance(answer, RecommendAnswer):
            alike[answer.lists, answer.generation_id, query.placement].append((number, answer))
            encoded.append(b"")
        else:
            encoded.append(_no_answer(answer, RecommendQuery))
    for (lists, generation_id, placement), members in alike.items():
        written = written_responses(
            _FIELDS,
            _shared_fields(generation_id, placement),
            lists,
            [answer.place for _, answer in members],
            [request_ids[number].encode() for number, _ in members],
            [queries[number].request_time_s for number, _ in members],
        )
        for (number, answer), response in zip(members, written, strict=True):
            if response is None:
                encoded[number] = EngineFault(_UNFIT)
            elif answer.shortfall or answer.gap:
                encoded[number] = response + _degraded(answer).SerializeToString()
            else:
                encoded[number] = response
    return encoded


@lru_cache(maxsize=256)
def _shared_fields(generation_id: str, placement: str) -> SharedFields:
    """A server has few placements and generations."""
    return SharedFields.of(generation_id, placement, _generation_id(generation_id))


def _columns(answer: RecommendAnswer) -> memoryview:
    """Ids, scores and sources; those of the whole batch are written when its first list is asked for."""
    lists = answer.lists
    if lists.encoded is None:
        lists.encoded = written_lists(lists, _TAGS, _FIRST_SOURCES)
    columns = lists.encoded[answer.place]
    if columns is None:
        raise EngineFault(_UNFIT)
    return columns


@lru_cache(maxsize=16)
def _generation_id(generation_id: str) -> bytes:
    """The same for many."""
    return text_field(_GENERATION_ID_FIELD, generation_id.encode())


def _unusual(query: RecommendQuery, answer: RecommendAnswer, timed: Answered | None) -> bytes:
    """What most responses do not have."""
    response = _degraded(answer) if answer.shortfall or answer.gap else pb.RecommendResponse()
    if timed is not None:
        response.timings.CopyFrom(encode_timings(timed))
    if query.explain:
        if len(answer.explanations) != answer.lists.counts[answer.place]:
            raise EngineFault("explanations are not one for each item")
        response.explanations.extend(map(_encode_explanation, answer.explanations))
    return response.SerializeToString()


def _degraded(answer: RecommendAnswer) -> pb.RecommendResponse:
    """Why a list is less than it could be."""
    reason = _WIRE_OF_GAP[answer.gap] if answer.gap else pb.DEGRADED_REASON_SHORTFALL
    return pb.RecommendResponse(degraded=True, degraded_reason=reason)


def _no_answer(answer: Answer, asked: type[Query]) -> Exception:
    """InvalidRequest for a query that the generation which came to answer it could not be asked; else our fault."""
    if isinstance(answer, FilterRefused):
        return InvalidRequest([Violation(answer.field, answer.description)])
    return EngineFault(f"a {asked.__name__} was answered with {type(answer).__name__}")


def encode_batch_recommend(responses: Iterable[bytes]) -> bytes:
    """A BatchRecommendResponse of encoded RecommendResponses."""
    return b"".join([embedded(_RESPONSES_FIELD, response) for response in responses])


def encode_stream_recommend(response: bytes) -> bytes:
    """A StreamRecommendResponse around an encoded RecommendResponse."""
    return embedded(_STREAM_RESPONSE_FIELD, response)


def encode_score(request_id: str, answered: Answered, item_count: int) -> bytes:
    """Scores in the order of the `item_count` items that were asked, as a ScoreResponse."""
    answer = answered.answer
    if not isinstance(answer, ScoreAnswer):
        raise EngineFault(f"a ScoreQuery was answered with {type(answer).__name__}")
    _check_columns(range(item_count), answer.scores, answer.known)
    response = pb.ScoreResponse(
        request_id=request_id, scores=answer.scores, known=answer.known, generation_id=answer.generation_id
    )
    return response.SerializeToString()


def encode_similar_items(request_id: str, answered: Answered) -> bytes:
    """The neighbours of one item, as a SimilarItemsResponse."""
    answer = answered.answer
    if not isinstance(answer, SimilarItemsAnswer):
        raise _no_answer(answer, SimilarItemsQuery)
    _check_columns(answer.item_ids, answer.scores, answer.scores)
    response = pb.SimilarItemsResponse(
        request_id=request_id, item_ids=answer.item_ids, scores=answer.scores, generation_id=answer.generation_id
    )
    return response.SerializeToString()


def encode_timings(answered: Answered) -> pb.StageTimings:
    """Where the time went; the stages after the queue are those of the whole batch."""
    timings = answered.timings
    return pb.StageTimings(
        queue_us=min(int(answered.queue_s * 1e6), _UINT32_MAX),
        state_us=timings.state_us,
        user_tower_us=timings.user_tower_us,
        retrieve_us=timings.retrieve_us,
        rank_us=timings.rank_us,
        batch_size=timings.batch_size,
    )


def _encode_explanation(explanation: ItemExplanation) -> pb.Explanation:
    return pb.Explanation(
        sources=_sources_of(explanation.sources),
        similarity=explanation.similarity,
        times_bought=explanation.times_bought,
        days_since_bought=explanation.days_since_bought,
    )


def _check_columns(items: range | list[str], scores: list[float], others: list[int] | list[bool] | list[float]) -> None:
    if not len(items) == len(scores) == len(others):
        raise EngineFault(f"columns differ in length: {len(items)} items, {len(scores)} scores, {len(others)} others")
    # A sum is finite only when every term is, and costs a tenth of looking at each.
    if not isfinite(sum(scores)):
        raise EngineFault("a score is not a finite number")
