"""Domain in, protobuf out: columns, no nested item messages, since they are what a list costs on the wire."""

from __future__ import annotations

from math import isfinite

from twinrank.v1 import recommendation_pb2 as pb

from server.attribution import AttributionToken
from server.batching import Answered
from server.domain import (
    ItemExplanation,
    RecommendAnswer,
    RecommendQuery,
    ScoreAnswer,
    SimilarItemsAnswer,
    Source,
)
from server.errors import EngineFault

_WIRE_OF_SOURCE = {  # what says most about the shopper comes first, and is named where several sources agree
    Source.BUY_AGAIN: pb.CANDIDATE_SOURCE_BUY_AGAIN,
    Source.SIMILAR: pb.CANDIDATE_SOURCE_SIMILAR,
    Source.TWO_TOWER: pb.CANDIDATE_SOURCE_TWO_TOWER,
    Source.POPULAR: pb.CANDIDATE_SOURCE_POPULAR,
}
_FLAGS = list(_WIRE_OF_SOURCE)
_ALL_SOURCES = [
    [_WIRE_OF_SOURCE[flag] for flag in _FLAGS if bits & flag] or [pb.CANDIDATE_SOURCE_UNSPECIFIED]
    for bits in range(2 * max(_FLAGS))
]
_FIRST_SOURCE = [sources[0] for sources in _ALL_SOURCES]
_UINT32_MAX = 2**32 - 1


def encode_recommend(
    request_id: str, query: RecommendQuery, answered: Answered, *, timings: bool
) -> pb.RecommendResponse:
    """The list of one query, with the token that ties later events to it."""
    answer = answered.answer
    if not isinstance(answer, RecommendAnswer):
        raise EngineFault(f"a RecommendQuery was answered with {type(answer).__name__}")
    _check_columns(answer.item_ids, answer.scores, answer.sources)
    if answer.explanations and len(answer.explanations) != len(answer.item_ids):
        raise EngineFault("explanations are not one for each item")
    token = AttributionToken(request_id, answer.generation_id, query.placement, query.request_time_s)
    response = pb.RecommendResponse(
        request_id=request_id,
        item_ids=answer.item_ids,
        scores=answer.scores,
        sources=[_FIRST_SOURCE[source] for source in answer.sources],
        attribution_token=token.encode(),
        generation_id=answer.generation_id,
    )
    if answer.shortfall:
        response.degraded = True
        response.degraded_reason = pb.DEGRADED_REASON_SHORTFALL
    if timings:
        response.timings.CopyFrom(encode_timings(answered))
    if query.explain:
        response.explanations.extend(map(_encode_explanation, answer.explanations))
    return response


def encode_score(request_id: str, answered: Answered, item_count: int) -> pb.ScoreResponse:
    """Scores in the order of the `item_count` items that were asked."""
    answer = answered.answer
    if not isinstance(answer, ScoreAnswer):
        raise EngineFault(f"a ScoreQuery was answered with {type(answer).__name__}")
    _check_columns(range(item_count), answer.scores, answer.known)
    return pb.ScoreResponse(
        request_id=request_id, scores=answer.scores, known=answer.known, generation_id=answer.generation_id
    )


def encode_similar_items(request_id: str, answered: Answered) -> pb.SimilarItemsResponse:
    """The neighbours of one item."""
    answer = answered.answer
    if not isinstance(answer, SimilarItemsAnswer):
        raise EngineFault(f"a SimilarItemsQuery was answered with {type(answer).__name__}")
    _check_columns(answer.item_ids, answer.scores, answer.scores)
    return pb.SimilarItemsResponse(
        request_id=request_id, item_ids=answer.item_ids, scores=answer.scores, generation_id=answer.generation_id
    )


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
        sources=_ALL_SOURCES[explanation.sources],
        similarity=explanation.similarity,
        times_bought=explanation.times_bought,
        days_since_bought=explanation.days_since_bought,
    )


def _check_columns(
    items: range | list[str], scores: list[float], others: list[Source] | list[bool] | list[float]
) -> None:
    if not len(items) == len(scores) == len(others):
        raise EngineFault(f"columns differ in length: {len(items)} items, {len(scores)} scores, {len(others)} others")
    # A sum is finite only when every term is, and costs a tenth of looking at each.
    if not isfinite(sum(scores)):
        raise EngineFault("a score is not a finite number")
