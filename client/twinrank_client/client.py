"""The blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from types import TracebackType
from typing import Self

import grpc

from twinrank_client import base, conversion
from twinrank_client.answer import Recommendations, Scores, SimilarItems, StreamAnswer
from twinrank_client.base import AnswerT, Method, RequestT
from twinrank_client.delivery import IN_FLIGHT_MAX_DEFAULT, PATIENCE_S_DEFAULT
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.event_stream import EventStream
from twinrank_client.request import RecommendRequest, ScoreRequest, SimilarItemsRequest
from twinrank_client.status import error_from_rpc
from twinrank_client.streaming import RequestFeed


class Client(base.BaseClient):
    """Asks a Twinrank server and waits for the answer. Threads may share one; every call may raise a TwinrankError.

        with Client("127.0.0.1:50051", timeout_s=0.2) as twinrank:
            answer = twinrank.recommend(RecommendRequest(user_id="1", page_size=5))

    The arguments are BaseClient's; it connects with the first call. Every call takes a `timeout_s` of its own and a W3C
    `traceparent`, which goes through to the server's logs, as the request's `request_id` does.
    """

    def recommend(
        self, request: RecommendRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> Recommendations:
        """One shopper, one list, best first."""
        return self._call(base.RECOMMEND, request, timeout_s, traceparent)

    def batch_recommend(
        self, requests: Sequence[RecommendRequest], *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> list[Recommendations]:
        """Several shoppers in one call, answered in the order of the requests; one wrong request fails them all."""
        return self._call(base.BATCH_RECOMMEND, requests, timeout_s, traceparent)

    def stream_recommend(
        self, requests: Iterable[RecommendRequest], *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> Generator[StreamAnswer, None, None]:
        """Many requests over one stream, cheaper than as many calls.

        Answers may come in another order: `request_id` tells them apart (one is made up where a request has none). One
        failed request is an answer with an error, and the stream goes on; a broken stream raises. `requests` is
        consumed in a thread of gRPC's; what it raises is raised here, after the answers to what was sent. Leaving the
        loop early cancels the stream.
        """
        feed = RequestFeed()
        call = self._next_stub().StreamRecommend(
            feed.of(requests), timeout=self._timeout_s("stream_s", timeout_s), metadata=base.call_metadata(traceparent)
        )
        try:
            for message in call:
                yield conversion.read_stream_answer(message)
        except grpc.RpcError as error:
            raise error_from_rpc(error, "") from error
        finally:
            call.cancel()
        if feed.failure is not None:
            raise feed.failure

    def score(self, request: ScoreRequest, *, timeout_s: float | None = None, traceparent: str | None = None) -> Scores:
        """Scores items that the caller already has, for one shopper."""
        return self._call(base.SCORE, request, timeout_s, traceparent)

    def similar_items(
        self, request: SimilarItemsRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> SimilarItems:
        """Items that resemble one item, whoever looks."""
        return self._call(base.SIMILAR_ITEMS, request, timeout_s, traceparent)

    def write_events(
        self, events: Sequence[Event], *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> WriteReceipt:
        """Writes what shoppers did; returns when the server has it for good. One wrong event refuses them all."""
        return self._call(base.WRITE_EVENTS, events, timeout_s, traceparent)

    def event_stream(
        self, *, in_flight_max: int = IN_FLIGHT_MAX_DEFAULT, patience_s: float = PATIENCE_S_DEFAULT
    ) -> EventStream:
        """A stream for many events: cheaper than as many calls, and it survives a server that restarts.

            with twinrank.event_stream() as stream:
                receipt = stream.send([Event(event_type="view", user_id="1", item_id="milk")])
            print(receipt.result().written_count)

        `in_flight_max`: messages that may wait for their acknowledgement. `patience_s`: how long to go on without any.
        """
        return EventStream(lambda feed: self._next_stub().StreamEvents(feed), in_flight_max, patience_s)

    def close(self) -> None:
        """Closes the connections; calls in flight are cancelled."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        self._connect(grpc.insecure_channel, grpc.secure_channel)

    def _call(
        self,
        method: Method[RequestT, AnswerT],
        request: RequestT,
        timeout_s: float | None,
        traceparent: str | None,
    ) -> AnswerT:
        message = method.write(request)
        rpc = getattr(self._next_stub(), method.name)
        try:
            response = rpc(
                message,
                timeout=self._timeout_s(method.timeout, timeout_s),
                metadata=base.call_metadata(traceparent),
            )
        except grpc.RpcError as error:
            raise error_from_rpc(error, method.request_id(request)) from error
        return method.read(response, request)
