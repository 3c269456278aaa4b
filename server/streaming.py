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

from google.protobuf.message import DecodeError
from twinrank.v1 import recommendation_pb2 as pb

from server.admission import Admission
from server.call import Call
from server.config import LimitsConfig
from server.domain import RecommendQuery
from server.encoding import encode_recommend, encode_stream_recommend
from server.errors import MalformedMessage, ShuttingDown
from server.logs import RequestLog
from server.metrics import Metrics
from server.service import RecommendationService
from server.status import ErrorStatus, status_of
from server.waiting import Outcome

METHOD = "StreamRecommend"
Write = Callable[[bytes], Awaitable[None]]


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
        stream = _Stream(self, self._in_flight_max)
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

    def begin(self, stream: _Stream, raw: bytes, stream_call: Call) -> _Message:
        """Decodes and queues one message of a stream. Raises `_MessageFailed`, whose answer is ready to be sent."""
        now_s = time.monotonic()
        deadline_s = min(now_s + self._default_deadline_s, stream_call.deadline_s)
        call = Call(METHOD, now_s, deadline_s, stream_call.metadata)
        service = self._service
        try:
            try:
                request = pb.StreamRecommendRequest.FromString(raw)
            except DecodeError as error:
                raise MalformedMessage("StreamRecommendRequest") from error
            asked = request.request
            if asked.request_id:
                call.request_id = service.request_ids.of(asked.request_id)
            query = service.decoder().stream_recommend(request, time.time())
            message = _Message(stream, call, query, timings=asked.read_options.timings)
            service.batcher.submit_for(message, query, deadline_s)
        except Exception as error:
            raise _MessageFailed(self._failed(call, error)) from error
        return message

    def finish(self, message: _Message, outcome: Outcome) -> bytes:
        """The answer to a message, encoded and counted."""
        call = message.call
        try:
            if isinstance(outcome, Exception):
                raise outcome
            call.answered = outcome
            response = encode_recommend(call.request_id, message.query, outcome, timings=message.timings)
        except Exception as error:
            return self._failed(call, error)
        seconds = time.monotonic() - call.started_s
        self._metrics.call_done(METHOD, "OK", seconds)
        self._request_log.answered(call, seconds)
        return encode_stream_recommend(response)

    def _failed(self, call: Call, error: Exception) -> bytes:
        status = status_of(error, call.request_id)
        self._metrics.call_done(METHOD, status.code_name, time.monotonic() - call.started_s)
        self._request_log.failed(call, status, error)
        return pb.StreamRecommendResponse(error=_encode_error(call.request_id, status)).SerializeToString()


class _MessageFailed(Exception):
    """A message was refused before it was queued."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class _Message:
    """One request of a stream, and the waiter of its query."""

    __slots__ = ("_stream", "call", "query", "timings")

    def __init__(self, stream: _Stream, call: Call, query: RecommendQuery, *, timings: bool) -> None:
        self._stream = stream
        self.call = call
        self.query = query
        self.timings = timings

    def done(self) -> bool:
        return self._stream.closed

    def answered(self, outcome: Outcome) -> None:
        self._stream.answered(self, outcome)


class _Stream:
    """The state of one stream. Its service decodes and encodes."""

    def __init__(self, service: StreamService, in_flight_max: int) -> None:
        self._service = service
        self._room = asyncio.Semaphore(in_flight_max)
        self._pending: set[_Message] = set()
        self._outbox: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._input_over = False
        self._draining = False
        self.closed = False

    async def read(self, messages: AsyncIterator[bytes], call: Call) -> None:
        """Reads until the caller has finished, the stream drains or the call is over."""
        try:
            async for raw in messages:
                await self._room.acquire()
                if self.closed or self._draining:
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
        self.closed = True
        self._pending.clear()
        self._room.release()

    def answered(self, message: _Message, outcome: Outcome) -> None:
        """One of the stream's messages has its answer."""
        self._pending.discard(message)
        self._put(self._service.finish(message, outcome))

    def _accept(self, raw: bytes, call: Call) -> None:
        try:
            self._pending.add(self._service.begin(self, raw, call))
        except _MessageFailed as failure:
            self._put(failure.answer)

    def _put(self, response: bytes) -> None:
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
