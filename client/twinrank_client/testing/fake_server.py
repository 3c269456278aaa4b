"""The fake server: a real gRPC server on a free loopback port, in threads of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from types import TracebackType
from typing import Never, Self

import grpc
from twinrank.v1 import events_pb2, events_pb2_grpc
from twinrank.v1 import recommendation_pb2 as pb
from twinrank.v1 import recommendation_pb2_grpc as pb_grpc

from twinrank_client import conversion, event_conversion
from twinrank_client.errors import Failure
from twinrank_client.event import Event
from twinrank_client.request import Request
from twinrank_client.status import write_details
from twinrank_client.testing.script import Items, Rpc, Script

WORKER_COUNT = 16
"""Calls answered at a time; each open stream holds one."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One received request; a batch and a stream give one for each of theirs.

    `timeout_s` is what was left of the caller's deadline on arrival, None when there was none. `peer` differs between
    connections.
    """

    rpc: Rpc
    request: Request
    metadata: Mapping[str, str | bytes]
    timeout_s: float | None
    peer: str


class FakeServer:
    """Serves at `target` from the moment it is made until `stop()`, or the end of its `with` block.

    A shopper gets the most particular list given: for user and placement, for the user, for the placement, for
    everybody; `page_size` and `exclude_item_ids` are honoured. Nothing given: an empty, degraded list. A seed item
    without given neighbours is NOT_FOUND, an item without a given score is unknown, as on the real server.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._script = Script()
        self._calls: list[RecordedCall] = []
        self._stopping = threading.Event()
        self._pool = futures.ThreadPoolExecutor(WORKER_COUNT, thread_name_prefix="twinrank-fake")
        # Without SO_REUSEPORT no other process can come to share the port.
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_RecommendationServiceServicer_to_server(_Servicer(self), self._server)  # type: ignore[no-untyped-call]
        events_pb2_grpc.add_EventServiceServicer_to_server(_EventServicer(self), self._server)  # type: ignore[no-untyped-call]
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    # What it shall answer

    def give_recommendations(self, items: Items, *, user_id: str | None = None, placement: str | None = None) -> None:
        """Answers Recommend, in all three forms, with these items, best first; bare ids get made-up falling scores."""
        with self._lock:
            self._script.give_list(items, user_id, placement)

    def give_similar_items(self, item_id: str, items: Items) -> None:
        """Answers SimilarItems for this seed item."""
        with self._lock:
            self._script.give_neighbours(item_id, items)

    def give_scores(self, scores: Mapping[str, float], *, user_id: str | None = None) -> None:
        """Answers Score for this shopper, or for everybody who has no scores of his own."""
        with self._lock:
            self._script.give_scores(scores, user_id)

    def fail(
        self,
        code: grpc.StatusCode,
        message: str = "made to fail",
        *,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        rpc: Rpc | None = None,
        times: int | None = None,
    ) -> None:
        """Fails the next `times` requests (None: all) of this RPC (None: any); a stream fails request by request.

        Mind the client's retries: with its defaults, UNAVAILABLE and RESOURCE_EXHAUSTED are asked three times.
        """
        with self._lock:
            self._script.give_failure(Failure(code, message, reason, dict(fields or {}), retry_after_s), rpc, times)

    def delay(self, latency_s: float) -> None:
        """Answers every request this much later, failures too."""
        with self._lock:
            self._script.latency_s = latency_s

    def reset(self) -> None:
        """Forgets everything given, made to fail and recorded."""
        with self._lock:
            self._script = Script()
            self._calls.clear()

    # What it was asked

    @property
    def calls(self) -> list[RecordedCall]:
        """Every request so far with its circumstances, in order of arrival; a retried one once for each attempt."""
        with self._lock:
            return list(self._calls)

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival."""
        return [call.request for call in self.calls]

    @property
    def events(self) -> list[Event]:
        """Every event written so far, in order of arrival; what came again under its id is here once."""
        with self._lock:
            return list(self._script.events)

    # Its life

    def stop(self) -> None:
        """Cuts the calls in flight and closes the port: from then on the target is unavailable."""
        self._stopping.set()
        self._server.stop(None).wait()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # For the servicer

    def _receive(self, rpc: Rpc, requests: Sequence[Request], context: grpc.ServicerContext) -> Failure | None:
        """Records the requests, waits the latency, and says how the call fails, if it does."""
        left_s = context.time_remaining()
        timeout_s = left_s if left_s is not None and left_s < threading.TIMEOUT_MAX else None
        metadata, peer = dict(context.invocation_metadata()), context.peer()
        with self._lock:
            self._calls.extend(RecordedCall(rpc, request, metadata, timeout_s, peer) for request in requests)
            failure = self._script.next_failure(rpc)
            latency_s = self._script.latency_s
        if latency_s:
            self._stopping.wait(latency_s)
        return failure


class _Servicer(pb_grpc.RecommendationServiceServicer):
    """The generated service over the script."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def Recommend(self, message: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        request = conversion.read_recommend(message)
        self._admit("Recommend", [request], context)
        with self._fake._lock:
            return conversion.write_recommendations(self._fake._script.recommend(request))

    def BatchRecommend(
        self, message: pb.BatchRecommendRequest, context: grpc.ServicerContext
    ) -> pb.BatchRecommendResponse:
        requests = [conversion.read_recommend(entry) for entry in message.requests]
        self._admit("BatchRecommend", requests, context)
        with self._fake._lock:
            answers = [self._fake._script.recommend(request) for request in requests]
        return pb.BatchRecommendResponse(responses=[conversion.write_recommendations(answer) for answer in answers])

    def StreamRecommend(
        self, messages: Iterable[pb.StreamRecommendRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamRecommendResponse]:
        for message in messages:
            request = conversion.read_recommend(message.request)
            failure = self._fake._receive("StreamRecommend", [request], context)
            if failure is not None:
                error = pb.StreamError(
                    request_id=request.request_id,
                    code=failure.code.value[0],
                    message=failure.message,
                    reason=failure.reason,
                    fields=list(failure.fields),
                )
                yield pb.StreamRecommendResponse(error=error)
                continue
            with self._fake._lock:
                answer = self._fake._script.recommend(request)
            yield pb.StreamRecommendResponse(response=conversion.write_recommendations(answer))

    def Score(self, message: pb.ScoreRequest, context: grpc.ServicerContext) -> pb.ScoreResponse:
        request = conversion.read_score(message)
        self._admit("Score", [request], context)
        with self._fake._lock:
            return conversion.write_scores(self._fake._script.score(request))

    def SimilarItems(self, message: pb.SimilarItemsRequest, context: grpc.ServicerContext) -> pb.SimilarItemsResponse:
        request = conversion.read_similar(message)
        self._admit("SimilarItems", [request], context)
        with self._fake._lock:
            answer = self._fake._script.similar_items(request)
        if answer is None:
            _abort(context, Failure(grpc.StatusCode.NOT_FOUND, f"no item {request.item_id!r}", "ITEM_NOT_FOUND"))
        return conversion.write_similar_items(answer)

    def _admit(self, rpc: Rpc, requests: Sequence[Request], context: grpc.ServicerContext) -> None:
        failure = self._fake._receive(rpc, requests, context)
        if failure is not None:
            _abort(context, failure)


class _EventServicer(events_pb2_grpc.EventServiceServicer):
    """The generated service of events over the script."""

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def WriteEvents(
        self, message: events_pb2.WriteEventsRequest, context: grpc.ServicerContext
    ) -> events_pb2.WriteEventsResponse:
        failure = self._fake._receive("WriteEvents", [], context)
        if failure is not None:
            _abort(context, failure)
        with self._fake._lock:
            receipt = self._fake._script.write_events([event_conversion.read_event(event) for event in message.events])
        return events_pb2.WriteEventsResponse(
            request_id=message.request_id,
            written_count=receipt.written_count,
            duplicate_count=receipt.duplicate_count,
            position_token=receipt.position_token,
        )

    def StreamEvents(
        self, messages: Iterable[events_pb2.StreamEventsRequest], context: grpc.ServicerContext
    ) -> Iterator[events_pb2.StreamEventsResponse]:
        for message in messages:
            number = message.sequence_number
            failure = self._fake._receive("StreamEvents", [], context)
            if failure is not None:
                error = events_pb2.EventsError(
                    code=failure.code.value[0],
                    message=failure.message,
                    reason=failure.reason,
                    fields=list(failure.fields),
                )
                yield events_pb2.StreamEventsResponse(sequence_number=number, error=error)
                continue
            events = [event_conversion.read_event(event) for event in message.events]
            with self._fake._lock:
                receipt = self._fake._script.write_events(events)
            yield events_pb2.StreamEventsResponse(
                sequence_number=number,
                written_count=receipt.written_count,
                duplicate_count=receipt.duplicate_count,
                position_token=receipt.position_token,
            )


def _abort(context: grpc.ServicerContext, failure: Failure) -> Never:
    context.set_trailing_metadata(write_details(failure))
    context.abort(failure.code, failure.message)
