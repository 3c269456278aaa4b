"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from grpc import aio

from twinrank_client import base, conversion
from twinrank_client.answer import Recommendations, Scores, SimilarItems, StreamAnswer
from twinrank_client.async_event_stream import AsyncEventStream
from twinrank_client.base import AnswerT, Method, RequestT
from twinrank_client.delivery import IN_FLIGHT_MAX_DEFAULT, PATIENCE_S_DEFAULT
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.request import RecommendRequest, ScoreRequest, SimilarItemsRequest
from twinrank_client.status import error_from_rpc
from twinrank_client.streaming import RequestFeed


class AsyncClient(base.BaseClient):
    """Client for asyncio: the same arguments, calls and errors; cancelling the awaiting task cancels the call.

        async with AsyncClient("127.0.0.1:50051", timeout_s=0.2) as twinrank:
            answer = await twinrank.recommend(RecommendRequest(user_id="1", page_size=5))

    May be made anywhere; it connects with the first call, and from then on belongs to the event loop of that call.
    """

    async def recommend(
        self, request: RecommendRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> Recommendations:
        """As Client.recommend."""
        return await self._call(base.RECOMMEND, request, timeout_s, traceparent)

    async def batch_recommend(
        self, requests: Sequence[RecommendRequest], *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> list[Recommendations]:
        """As Client.batch_recommend."""
        return await self._call(base.BATCH_RECOMMEND, requests, timeout_s, traceparent)

    async def stream_recommend(
        self,
        requests: AsyncIterable[RecommendRequest] | Iterable[RecommendRequest],
        *,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[StreamAnswer, None]:
        """As Client.stream_recommend; `requests` is consumed in a task, so an ordinary iterable must not block.

        Who may leave the loop early wraps this in `contextlib.aclosing`, which cancels the stream at once.
        """
        feed = RequestFeed()
        call = self._next_stub().StreamRecommend(
            feed.of_async(requests),
            timeout=self._timeout_s("stream_s", timeout_s),
            metadata=base.call_metadata(traceparent),
        )
        try:
            async for message in call:
                yield conversion.read_stream_answer(message)
        except grpc.RpcError as error:
            raise error_from_rpc(error, "") from error
        finally:
            call.cancel()
        if feed.failure is not None:
            raise feed.failure

    async def score(
        self, request: ScoreRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> Scores:
        """As Client.score."""
        return await self._call(base.SCORE, request, timeout_s, traceparent)

    async def similar_items(
        self, request: SimilarItemsRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> SimilarItems:
        """As Client.similar_items."""
        return await self._call(base.SIMILAR_ITEMS, request, timeout_s, traceparent)

    async def write_events(
        self, events: Sequence[Event], *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> WriteReceipt:
        """As Client.write_events."""
        return await self._call(base.WRITE_EVENTS, events, timeout_s, traceparent)

    def event_stream(
        self, *, in_flight_max: int = IN_FLIGHT_MAX_DEFAULT, patience_s: float = PATIENCE_S_DEFAULT
    ) -> AsyncEventStream:
        """As Client.event_stream, with `async with` and `await stream.send(…)`."""
        return AsyncEventStream(lambda feed: self._next_stub().StreamEvents(feed), in_flight_max, patience_s)

    async def close(self) -> None:
        """Closes the connections; calls in flight are cancelled."""
        self._closed = True
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _next_stub(self) -> Any:
        # A channel of grpc.aio takes the running loop when it is made, so it is made in a call and not in __init__.
        if not self._stubs and not self._closed:
            self._connect(aio.insecure_channel, aio.secure_channel)
        return super()._next_stub()

    async def _call(
        self,
        method: Method[RequestT, AnswerT],
        request: RequestT,
        timeout_s: float | None,
        traceparent: str | None,
    ) -> AnswerT:
        message = method.write(request)
        rpc = getattr(self._next_stub(), method.name)
        try:
            response = await rpc(
                message,
                timeout=self._timeout_s(method.timeout, timeout_s),
                metadata=base.call_metadata(traceparent),
            )
        except grpc.RpcError as error:
            raise error_from_rpc(error, method.request_id(request)) from error
        return method.read(response, request)
