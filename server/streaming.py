"""StreamRecommend: many requests on one long-lived call, answered as they are ready, in whatever order.

No task a message: a reader decodes and submits, the engine's delivery encodes into an outbox, and the call's own
coroutine writes. A request that is wrong is answered with a StreamError and the stream goes on. The number in flight is
bounded: beyond it the reader stops reading, and HTTP/2's flow control makes the caller wait.

The reader is never cancelled in the middle of a read: grpcio's core may still write into the cancelled read's memory.
It ends by itself with the call.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from google.protobuf.message import DecodeError
from twinrank.v1 import recommendation_pb2 as pb

from server.admission import Admission
from server.batching import Answered
from server.call import Call
from server.config import LimitsConfig
from server.domain import RecommendQuery
from server.encoding import encode_recommend
from server.errors import MalformedMessage, ShuttingDown
from server.logs import RequestLog
from server.metrics import Metrics
from server.service import RecommendationService
from server.status import ErrorStatus, status_of

METHOD = "StreamRecommend"
Write = Callable[[pb.StreamRecommendResponse], Awaitable[None]]


class StreamService:
    """Opens streams within the limits, and ends them all when the server drains."""

    def __init__(
        self, limits: LimitsConfig, service: RecommendationService, metrics: Metrics, request_log: RequestLog
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._request_log = request_log
        self._in_flight_max = limits.stream_in_flight_max
        self._default_deadline_s = limits.default_deadline_ms / 1000
        self.admission = Admission("streams", limits.streams_max, limits.retry_after_ms)
        self._open: set[_Stream] = set()
        self._readers: set[asyncio.Task[None]] = set()

    async def run(self, messages: AsyncIterator[bytes], write: Write, call: Call) -> None:
        """Serves one stream to its end. Raises `TooManyInFlight`, or `ShuttingDown` once what was read is answered."""
        call.request_id = self._service.request_ids.of("")
        self.admission.enter()
        stream = _Stream(self._in_flight_max, self._begin, self._finish)
        self._open.add(stream)
        try:
            reader = asyncio.create_task(stream.read(messages, call))
            self._readers.add(reader)
            reader.add_done_callback(self._forget_reader)
            await stream.write_all(write)
        finally:
            stream.close()
            self._open.discard(stream)
            self.admission.leave()

    def drain(self) -> None:
        """Every stream answers what it has read and then ends with UNAVAILABLE, so that its caller goes elsewhere."""
        self.admission.close()
        for stream in self._open:
            stream.drain()

    def _forget_reader(self, reader: asyncio.Task[None]) -> None:
        self._readers.discard(reader)
        if not reader.cancelled():
            reader.exception()  # the call is over; the status that the caller got says why

    def _begin(self, raw: bytes, stream_call: Call) -> tuple[Call, RecommendQuery, bool, asyncio.Future[Answered]]:
        """Decodes and queues one message; whatever it raises is answered with the request's id when there is one."""
        now_s = time.monotonic()
        deadline_s = min(now_s + self._default_deadline_s, stream_call.deadline_s)
        call = Call(METHOD, now_s, deadline_s, stream_call.metadata)
        try:
            try:
                message = pb.StreamRecommendRequest.FromString(raw)
            except DecodeError as error:
                raise MalformedMessage("StreamRecommendRequest") from error
            if message.request.request_id:
                call.request_id = self._service.request_ids.of(message.request.request_id)
            query = self._service.decoder().stream_recommend(message, time.time())
            [future] = self._service.batcher.submit((query,), deadline_s)
        except Exception as error:
            raise _MessageFailed(call, error) from error
        return call, query, message.request.read_options.timings, future

    def _finish(
        self,
        call: Call,
        query: RecommendQuery | None,
        timings: bool,
        outcome: Answered | BaseException,
    ) -> pb.StreamRecommendResponse:
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            assert query is not None, "an answer has a query"
            call.answered = outcome
            response = encode_recommend(call.request_id, query, outcome, timings=timings)
        except Exception as error:
            status = status_of(error, call.request_id)
            self._metrics.call_done(METHOD, status.code_name, time.monotonic() - call.started_s)
            self._request_log.failed(call, status, error)
            return pb.StreamRecommendResponse(error=_encode_error(call.request_id, status))
        seconds = time.monotonic() - call.started_s
        self._metrics.call_done(METHOD, "OK", seconds)
        self._request_log.answered(call, seconds)
        return pb.StreamRecommendResponse(response=response)


class _MessageFailed(Exception):
    def __init__(self, call: Call, reason: Exception) -> None:
        super().__init__()
        self.call = call
        self.reason = reason


class _Stream:
    """The state of one stream. `begin` and `finish` are the service's; see `StreamService`."""

    def __init__(
        self,
        in_flight_max: int,
        begin: Callable[[bytes, Call], tuple[Call, RecommendQuery, bool, asyncio.Future[Answered]]],
        finish: Callable[[Call, RecommendQuery | None, bool, Answered | BaseException], pb.StreamRecommendResponse],
    ) -> None:
        self._begin = begin
        self._finish = finish
        self._room = asyncio.Semaphore(in_flight_max)
        self._pending: set[asyncio.Future[Answered]] = set()
        self._outbox: deque[pb.StreamRecommendResponse] = deque()
        self._wake = asyncio.Event()
        self._input_over = False
        self._draining = False
        self._closed = False

    async def read(self, messages: AsyncIterator[bytes], call: Call) -> None:
        """Reads until the caller has finished, the stream drains or the call is over."""
        try:
            async for raw in messages:
                await self._room.acquire()
                if self._closed or self._draining:
                    return
                self._accept(raw, call)
            self._input_over = True
        finally:
            self._wake.set()

    async def write_all(self, write: Write) -> None:
        """Writes answers until the input is over and everything read has been answered."""
        while True:
            while self._outbox:
                await write(self._outbox.popleft())
                self._room.release()
            if not self._pending and not self._outbox:
                if self._input_over:
                    return
                if self._draining:
                    raise ShuttingDown
            self._wake.clear()
            await self._wake.wait()

    def drain(self) -> None:
        """Takes no further message."""
        self._draining = True
        self._wake.set()

    def close(self) -> None:
        """The call is over: withdraws what the engine has not begun, and lets the reader end."""
        self._closed = True
        for future in tuple(self._pending):
            future.cancel()
        self._room.release()

    def _accept(self, raw: bytes, stream_call: Call) -> None:
        try:
            call, query, timings, future = self._begin(raw, stream_call)
        except _MessageFailed as failure:
            self._put(self._finish(failure.call, None, False, failure.reason))
            return
        self._pending.add(future)
        future.add_done_callback(partial(self._answered, call, query, timings))

    def _answered(self, call: Call, query: RecommendQuery, timings: bool, future: asyncio.Future[Answered]) -> None:
        self._pending.discard(future)
        if self._closed or future.cancelled():
            return
        self._put(self._finish(call, query, timings, future.exception() or future.result()))

    def _put(self, response: pb.StreamRecommendResponse) -> None:
        self._outbox.append(response)
        self._wake.set()


def _encode_error(request_id: str, status: ErrorStatus) -> pb.StreamError:
    return pb.StreamError(
        request_id=request_id,
        code=status.code,
        message=status.message,
        reason=status.reason,
        fields=[field for field, _ in status.fields],
    )
