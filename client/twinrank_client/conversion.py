"""Dataclasses to protobuf and back: the one place that knows both, and no transport.

The clients write requests and read answers; the fake server of `twinrank_client.testing` does the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import recommendation_pb2 as pb

from twinrank_client.answer import (
    CandidateSource,
    DegradedReason,
    Explanation,
    Recommendations,
    Scores,
    SimilarItems,
    StageTimings,
    StreamAnswer,
)
from twinrank_client.errors import Failure, to_error
from twinrank_client.filter_conversion import read_filter, write_filter
from twinrank_client.request import RecentEvent, RecommendRequest, RepeatPolicy, ScoreRequest, SimilarItemsRequest
from twinrank_client.status import status_code

_SOURCES = {int(source): source for source in CandidateSource}
_REASONS = {int(reason): reason for reason in DegradedReason}


# Requests


def write_recommend(request: RecommendRequest) -> pb.RecommendRequest:
    """One shopper's request, as sent."""
    message = pb.RecommendRequest(
        request_id=request.request_id,
        placement=request.placement,
        user_id=request.user_id,
        visitor_id=request.visitor_id,
        session_id=request.session_id,
        recent_events=_write_events(request.recent_events),
        context_item_ids=request.context_item_ids,
        context=request.context,
        request_time=_write_time(request.request_time),
        page_size=request.page_size,
        exclude_item_ids=request.exclude_item_ids,
        repeat_policy=cast("pb.RepeatPolicy", int(request.repeat_policy)),
        position_token=request.position_token,
        filter=None if request.filter is None else write_filter(request.filter),
    )
    if request.explain or request.timings:
        message.read_options.explain = request.explain
        message.read_options.timings = request.timings
    return message


def read_recommend(message: pb.RecommendRequest) -> RecommendRequest:
    """One shopper's request, as received."""
    return RecommendRequest(
        request_id=message.request_id,
        placement=message.placement,
        user_id=message.user_id,
        visitor_id=message.visitor_id,
        session_id=message.session_id,
        recent_events=_read_events(message.recent_events),
        context_item_ids=tuple(message.context_item_ids),
        context=dict(message.context),
        request_time=_read_time(message.request_time) if message.HasField("request_time") else None,
        page_size=message.page_size,
        exclude_item_ids=tuple(message.exclude_item_ids),
        repeat_policy=RepeatPolicy(message.repeat_policy),
        explain=message.read_options.explain,
        timings=message.read_options.timings,
        position_token=message.position_token,
        filter=read_filter(message.filter) if message.HasField("filter") else None,
    )


def write_batch(requests: Sequence[RecommendRequest]) -> pb.BatchRecommendRequest:
    """Several shoppers' requests in one message."""
    return pb.BatchRecommendRequest(requests=[write_recommend(request) for request in requests])


def write_score(request: ScoreRequest) -> pb.ScoreRequest:
    """A request for scores, as sent."""
    return pb.ScoreRequest(
        request_id=request.request_id,
        placement=request.placement,
        user_id=request.user_id,
        visitor_id=request.visitor_id,
        recent_events=_write_events(request.recent_events),
        context_item_ids=request.context_item_ids,
        context=request.context,
        request_time=_write_time(request.request_time),
        item_ids=request.item_ids,
        position_token=request.position_token,
    )


def read_score(message: pb.ScoreRequest) -> ScoreRequest:
    """A request for scores, as received."""
    return ScoreRequest(
        request_id=message.request_id,
        placement=message.placement,
        user_id=message.user_id,
        visitor_id=message.visitor_id,
        recent_events=_read_events(message.recent_events),
        context_item_ids=tuple(message.context_item_ids),
        context=dict(message.context),
        request_time=_read_time(message.request_time) if message.HasField("request_time") else None,
        item_ids=tuple(message.item_ids),
        position_token=message.position_token,
    )


def write_similar(request: SimilarItemsRequest) -> pb.SimilarItemsRequest:
    """A request for neighbours, as sent."""
    return pb.SimilarItemsRequest(
        request_id=request.request_id,
        item_id=request.item_id,
        page_size=request.page_size,
        exclude_item_ids=request.exclude_item_ids,
        filter=None if request.filter is None else write_filter(request.filter),
    )


def read_similar(message: pb.SimilarItemsRequest) -> SimilarItemsRequest:
    """A request for neighbours, as received."""
    return SimilarItemsRequest(
        item_id=message.item_id,
        page_size=message.page_size,
        exclude_item_ids=tuple(message.exclude_item_ids),
        request_id=message.request_id,
        filter=read_filter(message.filter) if message.HasField("filter") else None,
    )


# Answers


def read_recommendations(message: pb.RecommendResponse) -> Recommendations:
    """A list, as received."""
    return Recommendations(
        item_ids=tuple(message.item_ids),
        scores=tuple(message.scores),
        sources=_read_sources(message.sources),
        request_id=message.request_id,
        attribution_token=message.attribution_token,
        generation_id=message.generation_id,
        degraded=message.degraded,
        degraded_reason=_REASONS.get(message.degraded_reason, DegradedReason.UNKNOWN),
        timings=_read_timings(message.timings) if message.HasField("timings") else None,
        explanations=tuple(_read_explanation(entry) for entry in message.explanations),
    )


def write_recommendations(answer: Recommendations) -> pb.RecommendResponse:
    """A list, as a server sends it."""
    timings = answer.timings
    return pb.RecommendResponse(
        request_id=answer.request_id,
        item_ids=answer.item_ids,
        scores=answer.scores,
        sources=_write_sources(answer.sources),
        attribution_token=answer.attribution_token,
        generation_id=answer.generation_id,
        degraded=answer.degraded,
        degraded_reason=cast("pb.DegradedReason", int(answer.degraded_reason)),
        timings=None
        if timings is None
        else pb.StageTimings(
            queue_us=timings.queue_us,
            state_us=timings.state_us,
            user_tower_us=timings.user_tower_us,
            retrieve_us=timings.retrieve_us,
            rank_us=timings.rank_us,
            batch_size=timings.batch_size,
        ),
        explanations=[
            pb.Explanation(
                sources=_write_sources(entry.sources),
                similarity=entry.similarity,
                times_bought=entry.times_bought,
                days_since_bought=entry.days_since_bought,
            )
            for entry in answer.explanations
        ],
    )


def read_batch(message: pb.BatchRecommendResponse) -> list[Recommendations]:
    """One list for each request, in order."""
    return [read_recommendations(response) for response in message.responses]


def read_stream_answer(message: pb.StreamRecommendResponse) -> StreamAnswer:
    """The answer to one request of a stream; wrong fields come without descriptions, so each gets the message."""
    if not message.HasField("error"):
        recommendations = read_recommendations(message.response)
        return StreamAnswer(recommendations.request_id, recommendations)
    error = message.error
    failure = Failure(
        code=status_code(error.code),
        message=error.message,
        reason=error.reason,
        fields=dict.fromkeys(error.fields, error.message),
        request_id=error.request_id,
    )
    return StreamAnswer(error.request_id, error=to_error(failure))


def read_scores(message: pb.ScoreResponse, request: ScoreRequest) -> Scores:
    """Scores, as received; the items are the request's, in its order."""
    return Scores(
        item_ids=tuple(request.item_ids),
        scores=tuple(message.scores),
        known=tuple(message.known),
        request_id=message.request_id,
        generation_id=message.generation_id,
    )


def write_scores(answer: Scores) -> pb.ScoreResponse:
    """Scores, as a server sends them."""
    return pb.ScoreResponse(
        request_id=answer.request_id, scores=answer.scores, known=answer.known, generation_id=answer.generation_id
    )


def read_similar_items(message: pb.SimilarItemsResponse) -> SimilarItems:
    """Neighbours, as received."""
    return SimilarItems(
        item_ids=tuple(message.item_ids),
        scores=tuple(message.scores),
        request_id=message.request_id,
        generation_id=message.generation_id,
    )


def write_similar_items(answer: SimilarItems) -> pb.SimilarItemsResponse:
    """Neighbours, as a server sends them."""
    return pb.SimilarItemsResponse(
        request_id=answer.request_id, item_ids=answer.item_ids, scores=answer.scores, generation_id=answer.generation_id
    )


# Parts


def _write_time(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message


def _read_time(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)


def _write_events(events: Iterable[RecentEvent]) -> list[pb.RecentEvent]:
    return [
        pb.RecentEvent(item_id=event.item_id, event_type=event.event_type, time=_write_time(event.time))
        for event in events
    ]


def _read_events(messages: Iterable[pb.RecentEvent]) -> tuple[RecentEvent, ...]:
    return tuple(
        RecentEvent(event.item_id, event.event_type, _read_time(event.time) if event.HasField("time") else None)
        for event in messages
    )


def _write_sources(sources: Iterable[CandidateSource]) -> list[pb.CandidateSource]:
    return cast("list[pb.CandidateSource]", [int(source) for source in sources])


def _read_sources(numbers: Iterable[int]) -> tuple[CandidateSource, ...]:
    return tuple(_SOURCES.get(number, CandidateSource.UNKNOWN) for number in numbers)


def _read_timings(message: pb.StageTimings) -> StageTimings:
    return StageTimings(
        queue_us=message.queue_us,
        state_us=message.state_us,
        user_tower_us=message.user_tower_us,
        retrieve_us=message.retrieve_us,
        rank_us=message.rank_us,
        batch_size=message.batch_size,
    )


def _read_explanation(message: pb.Explanation) -> Explanation:
    return Explanation(
        sources=_read_sources(message.sources),
        similarity=message.similarity,
        times_bought=message.times_bought,
        days_since_bought=message.days_since_bought,
    )
