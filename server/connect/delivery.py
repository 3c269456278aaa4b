"""Delivers messages of events to a server until each is acknowledged, whatever happens on the way.

A bounded number of messages is in flight. A server that is full or away is waited for; a broken stream is opened anew
and what had no acknowledgement is sent again, in order. Events that the server calls invalid are taken out of their
message and reported, and the rest of the message goes on.

    send → pending → (stream) sent → acknowledged: Delivered
              ↑________________| refused for now, or the stream broke
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import grpc
from twinrank.v1 import events_pb2 as pb
from twinrank.v1 import events_pb2_grpc as pb_grpc
from twinrank_client.errors import TwinrankError
from twinrank_client.settings import Limits, Retry, Tls, channel_options
from twinrank_client.status import status_code

from server.connect.errors import DeliveryRefused
from server.connect.message import Delivered, Message, Part, Refused, parts_of
from server.connect.stream import EventStream, Heard

MESSAGES_IN_FLIGHT_MAX = 16
ACKNOWLEDGEMENT_TIMEOUT_S = 30.0
"""A stream that acknowledges nothing for so long is given up and opened anew."""
BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 5.0

INVALID = frozenset((grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE))
HOPELESS = frozenset(
    (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
    )
)

_PLACE = re.compile(r"events\[(\d+)\]")


class Delivery:
    """Used by one thread; `poll` does the work. What is not acknowledged when it is closed stays undelivered."""

    def __init__(
        self,
        target: str,
        *,
        messages_in_flight_max: int = MESSAGES_IN_FLIGHT_MAX,
        acknowledgement_timeout_s: float = ACKNOWLEDGEMENT_TIMEOUT_S,
        tls: Tls | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        options = channel_options(Retry(attempts_max=1), Limits(), tls)
        self._channel = (
            grpc.insecure_channel(target, options=options)
            if tls is None
            else grpc.secure_channel(target, tls.credentials(), options=options)
        )
        self._target = target
        # The generator writes the stub without types.
        self._stub = pb_grpc.EventServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._in_flight_max = messages_in_flight_max
        self._timeout_s = acknowledgement_timeout_s
        self._clock = clock
        self._heard: SimpleQueue[Heard] = SimpleQueue()
        self._stream: EventStream | None = None
        self._messages: deque[Message] = deque()
        self._pending: deque[Part] = deque()
        self._sent: deque[tuple[int, Part]] = deque()
        self._message_count = 0
        self._heard_at_s = 0.0
        self._resume_at_s = 0.0
        self._backoff_s = BACKOFF_S_MIN
        self.trouble = ""
        """Why it waits, for the progress line; empty while all is well."""

    @property
    def in_flight(self) -> int:
        """Messages without their acknowledgement."""
        return len(self._messages)

    @property
    def full(self) -> bool:
        """Whether as many messages are in flight as may be: `poll` until it is not."""
        return len(self._messages) >= self._in_flight_max

    def until_connected(self, timeout_s: float) -> None:
        """Waits for the server, where an absent one is a mistake. Raises ConnectionError."""
        try:
            grpc.channel_ready_future(self._channel).result(timeout_s)
        except grpc.FutureTimeoutError as error:
            raise ConnectionError(f"no server answers at {self._target} within {timeout_s:g} s") from error

    def send(self, events: Sequence[pb.Event], tag: Any) -> None:
        """Takes one message; `tag` comes back with its Delivered. A message without events is delivered in its turn."""
        message = Message(self._message_count, tag)
        self._message_count += 1
        self._messages.append(message)
        for part in parts_of(message, events):
            self._add(part)
        self._send_pending()

    def poll(self, timeout_s: float) -> list[Delivered]:
        """Works for at most so long, or until something happens; the messages that are done, in their order.

        Raises DeliveryRefused when the server will never take events from here.
        """
        self._send_pending()
        now_s = self._clock()
        wait_s = timeout_s
        if self._pending:
            wait_s = min(wait_s, max(0.0, self._resume_at_s - now_s))
        if self._messages and not self._messages[0].open_parts:
            wait_s = 0.0
        try:
            heard = self._heard.get(timeout=wait_s) if wait_s > 0 else self._heard.get_nowait()
            while True:
                self._hear(heard)
                heard = self._heard.get_nowait()
        except Empty:
            pass
        if self._sent and self._clock() - self._heard_at_s > self._timeout_s:
            self._break(f"no acknowledgement for {self._timeout_s:g} s", 0.0)
        self._send_pending()
        return self._done()

    def close(self) -> None:
        """Closes the stream and the connection."""
        if self._stream is not None:
            self._stream.close()
        self._channel.close()

    def _add(self, part: Part) -> None:
        part.message.open_parts += 1
        self._pending.append(part)

    def _send_pending(self) -> None:
        if not self._pending or self._clock() < self._resume_at_s:
            return
        if self._stream is None:
            self._stream = EventStream(self._stub, self._heard)
        if not self._sent:
            self._heard_at_s = self._clock()
        while self._pending:
            part = self._pending.popleft()
            self._sent.append((self._stream.send(part.events), part))

    def _hear(self, heard: Heard) -> None:
        if heard.stream is not self._stream:
            return
        self._heard_at_s = self._clock()
        if heard.response is not None:
            self._acknowledge(heard.response)
        elif heard.error is None:
            self._break("the server closed the stream", 0.0)
        else:
            _check_hope(heard.error.code, str(heard.error))
            if heard.error.code in INVALID:
                raise DeliveryRefused(f"the server refuses the stream: {heard.error}")
            self._break(_words(heard.error), getattr(heard.error, "retry_after_s", None) or 0.0)

    def _acknowledge(self, response: pb.StreamEventsResponse) -> None:
        if not self._sent or self._sent[0][0] != response.sequence_number:
            expected = self._sent[0][0] if self._sent else "none"
            self._break(f"acknowledgement {response.sequence_number} where {expected} was due", 0.0)
            return
        _, part = self._sent.popleft()
        code = status_code(response.error.code)
        if code is grpc.StatusCode.OK:
            part.message.written_count += response.written_count
            part.message.duplicate_count += response.duplicate_count
            part.message.open_parts -= 1
            if not self._pending:
                self._backoff_s, self.trouble = BACKOFF_S_MIN, ""
        elif code in INVALID:
            self._take_out(part, response.error)
        else:
            _check_hope(code, response.error.message)
            self._wait(f"{code.name}: {response.error.message}", 0.0)
            self._return([part])

    def _take_out(self, part: Part, error: pb.EventsError) -> None:
        """Refuses the events that the server names; halves the message where it names none."""
        named: dict[int, str] = {}
        for name in (*error.fields, error.message):
            if (match := _PLACE.search(name)) and int(match[1]) < len(part.events):
                named.setdefault(int(match[1]), name)
        part.message.open_parts -= 1
        if not named and len(part.events) > 1:
            middle = len(part.events) // 2
            rests = [part.only(range(middle)), part.only(range(middle, len(part.events)))]
        else:
            named = named or {0: error.message}
            reason = error.reason.lower() or "invalid"
            for index, name in named.items():
                detail = error.message if _PLACE.sub("", name) in error.message else f"{name}; {error.message}"
                part.message.refused.append(Refused(part.places[index], reason, detail))
            rest = [index for index in range(len(part.events)) if index not in named]
            rests = [part.only(rest)] if rest else []
        for each in rests:
            each.message.open_parts += 1
        self._return(rests)

    def _return(self, parts: Sequence[Part]) -> None:
        self._pending = deque(sorted((*self._pending, *parts), key=lambda part: part.order))

    def _break(self, why: str, wait_s: float) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        parts = [part for _, part in self._sent]
        self._sent.clear()
        self._return(parts)
        self._wait(why, wait_s)

    def _wait(self, why: str, wait_s: float) -> None:
        now_s = self._clock()
        if now_s >= self._resume_at_s:  # several refusals of one moment make one wait
            self._resume_at_s = now_s + max(wait_s, self._backoff_s)
            self._backoff_s = min(2 * self._backoff_s, BACKOFF_S_MAX)
        self.trouble = why

    def _done(self) -> list[Delivered]:
        done = []
        while self._messages and not self._messages[0].open_parts:
            message = self._messages.popleft()
            refused = tuple(sorted(message.refused, key=lambda one: one.place))
            done.append(Delivered(message.tag, message.written_count, message.duplicate_count, refused))
        return done


def _words(error: TwinrankError) -> str:
    return f"{error.code.name}: {error.message}"


def _check_hope(code: grpc.StatusCode, message: str) -> None:
    if code in HOPELESS:
        raise DeliveryRefused(f"the server will not take these events: {code.name}: {message}")
