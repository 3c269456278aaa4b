"""StreamEvents: messages of events on one long-lived call, each acknowledged by its sequence number, in order.

A message is decoded and handed to the writer as soon as it is read; its acknowledgement goes out when the store has its
events and every earlier message has been answered. Messages in flight are bounded, and a stream is read no further
while too many events wait for the store: HTTP/2's flow control then makes the caller wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError
from twinrank.v1 import events_pb2 as pb

from server.admission import Admission
from server.call import Call
from server.config import ServerConfig
from server.errors import InvalidRequest, MalformedMessage, ShuttingDown, Violation
from server.events.domain import WriteReceipt
from server.events.service import EventService
from server.logs import RequestLog
from server.metrics import Metrics
from server.state.token import make_token
from server.status import status_of
from server.streaming import Write

METHOD = "StreamEvents"


class EventStreams:
    """Opens streams within the limits, and ends them all when the server drains."""

    def __init__(self, config: ServerConfig, service: EventService, metrics: Metrics, request_log: RequestLog) -> None:
        limits = config.limits
        self.service = service
        self._metrics = metrics
        self._request_log = request_log
        self._in_flight_max = limits.stream_in_flight_max
        self.admission = Admission("event streams", config.events.streams_max, limits.retry_after_ms)
        self._open: set[_Stream] = set()
        self._readers: set[asyncio.Task[None]] = set()

    async def run(self, messages: AsyncIterator[bytes], write: Write, call: Call) -> None:
        """Serves one stream to its end.

        Raises:
            StoreIsOff, TooManyInFlight: at once.
            ShuttingDown: when the server drains, and what was read has been answered.
        """
        call.request_id = self.service.request_ids.of("")
        _ = self.service.writer
        self.admission.enter()
        stream = _Stream(self, call, self._in_flight_max)
        self._open.add(stream)
        try:
            # Never cancelled in the middle of a read, as in server/streaming.py; it ends with the call.
            reader = asyncio.create_task(stream.read(messages))
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

    def answered(self, message: _Message, outcome: WriteReceipt | Exception) -> bytes:
        """The response to one message, encoded and counted."""
        call = message.call
        seconds = time.monotonic() - call.started_s
        response = pb.StreamEventsResponse(sequence_number=message.sequence_number)
        if isinstance(outcome, WriteReceipt):
            response.written_count = outcome.written_count
            response.duplicate_count = outcome.duplicate_count
            response.position_token = make_token(outcome.last_ms)
            self._metrics.call_done(METHOD, "OK", seconds)
            self._request_log.answered(call, seconds)
        else:
            status = status_of(outcome, call.request_id)
            self._metrics.call_done(METHOD, status.code_name, seconds)
            self._request_log.failed(call, status, outcome)
            response.error.code = status.code
            response.error.message = status.message
            response.error.reason = status.reason
            response.error.fields.extend(field for field, _ in status.fields)
        return response.SerializeToString()

    def _forget_reader(self, reader: asyncio.Task[None]) -> None:
        self._readers.discard(reader)
        if not reader.cancelled():
            reader.exception()  # the call is over; the status that the caller got says why


class _Message:
    """One message in flight: what its answer will be made of."""

    __slots__ = ("call", "outcome", "sequence_number")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.sequence_number = 0
        self.outcome: asyncio.Future[WriteReceipt] | Exception | None = None

    def result(self) -> WriteReceipt | Exception | None:
        """None while the store has not answered."""
        outcome = self.outcome
        if not isinstance(outcome, asyncio.Future):
            return outcome
        if not outcome.done():
            return None
        return outcome.exception() or outcome.result()  # type: ignore[return-value]  # the writer sets Exceptions


class _Stream:
    """The state of one stream."""

    def __init__(self, streams: EventStreams, call: Call, in_flight_max: int) -> None:
        self._streams = streams
        self._service = streams.service
        self._call = call
        self._room = asyncio.Semaphore(in_flight_max)
        self._in_flight: deque[_Message] = deque()
        self._wake = asyncio.Event()
        self._last_number = 0
        self._input_over = False
        self._draining = False
        self._closed = False

    async def read(self, messages: AsyncIterator[bytes]) -> None:
        """Reads until the caller has finished, the stream drains or the call is over."""
        try:
            async for raw in messages:
                await self._room.acquire()
                await self._service.writer.until_room()
                if self._closed or self._draining:
                    return
                self._accept(raw)
            self._input_over = True
        finally:
            self._wake.set()

    async def write_all(self, write: Write) -> None:
        """Writes answers until the input is over and everything read has been answered."""
        in_flight = self._in_flight
        while True:
            while in_flight and (outcome := in_flight[0].result()) is not None:
                await write(self._streams.answered(in_flight.popleft(), outcome))
                self._room.release()
            if not in_flight:
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
        """The call is over; what was handed to the writer is written all the same."""
        self._closed = True
        for message in self._in_flight:
            if isinstance(message.outcome, asyncio.Future) and not message.outcome.cancel():
                message.outcome.exception()  # nobody is left to hear of it
        self._in_flight.clear()
        self._room.release()

    def _accept(self, raw: bytes) -> None:
        now_s = time.monotonic()
        message = _Message(Call(METHOD, now_s, self._call.deadline_s, self._call.metadata, self._call.request_id))
        self._in_flight.append(message)
        try:
            future = self._submit(raw, message)
        except Exception as error:
            message.outcome = error
            self._wake.set()
        else:
            message.outcome = future
            future.add_done_callback(self._one_is_done)

    def _submit(self, raw: bytes, message: _Message) -> asyncio.Future[WriteReceipt]:
        try:
            request = pb.StreamEventsRequest.FromString(raw)
        except DecodeError as error:
            raise MalformedMessage("StreamEventsRequest") from error
        message.sequence_number = number = request.sequence_number
        if number <= self._last_number:
            description = f"is {number}; the last message had {self._last_number}, and numbers ascend from 1"
            raise InvalidRequest([Violation("sequence_number", description)])
        self._last_number = number
        return self._service.writer.submit(self._service.decoder.decode(request.events, time.time()))

    def _one_is_done(self, future: asyncio.Future[WriteReceipt]) -> None:
        del future
        self._wake.set()
