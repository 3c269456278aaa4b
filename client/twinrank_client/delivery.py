"""Messages of an event stream between being sent and being acknowledged: the part that threads and asyncio share.

A message keeps its sequence number over reconnections, and is sent again until it is acknowledged. That does no harm,
since every event has an id.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Sequence
from typing import Generic, TypeVar

from twinrank.v1 import events_pb2 as pb

from twinrank_client import event_conversion
from twinrank_client.errors import Overloaded, TwinrankError, Unavailable
from twinrank_client.event import Event, WriteReceipt

IN_FLIGHT_MAX_DEFAULT = 64
"""Messages that may wait for their acknowledgement: as many as the server reads ahead."""
PATIENCE_S_DEFAULT = 30.0
"""How long without any acknowledgement a stream goes on trying: a server that restarts is back long before."""
BACKOFF_S = 0.05
BACKOFF_S_MAX = 2.0


FutureT = TypeVar("FutureT", "concurrent.futures.Future[WriteReceipt]", "asyncio.Future[WriteReceipt]")


class TryAgain(Exception):
    """The server could not write a message now: everything that is not acknowledged is to be sent again."""

    def __init__(self, error: TwinrankError) -> None:
        super().__init__(str(error))
        self.error = error


class Delivery(Generic[FutureT]):
    """The messages that are not acknowledged yet. Not safe between threads by itself."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._messages: dict[int, tuple[pb.StreamEventsRequest, FutureT]] = {}
        self._next_number = 1
        self._failed_count = 0
        self._progress_at_s = time.monotonic()
        self.failure: TwinrankError | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, events: Sequence[Event], future: FutureT) -> None:
        """One more message."""
        number = self._next_number
        message = pb.StreamEventsRequest(
            sequence_number=number, events=[event_conversion.write_event(event) for event in events]
        )
        if not self._messages:
            self._progress_at_s = time.monotonic()
        self._messages[number] = (message, future)
        self._next_number = number + 1

    def first_number(self) -> int:
        """Where a new connection begins."""
        return next(iter(self._messages), self._next_number)

    def message(self, number: int) -> pb.StreamEventsRequest | None:
        """The message of this number, None when there is none yet."""
        found = self._messages.get(number)
        return None if found is None else found[0]

    def acknowledge(self, answer: pb.StreamEventsResponse) -> None:
        """The server's answer to one message. Raises TryAgain."""
        if answer.HasField("error"):
            error = event_conversion.read_error(answer.error)
            if isinstance(error, Unavailable) or error.reason in ("QUEUE_FULL", "TOO_MANY_IN_FLIGHT"):
                raise TryAgain(error)
        self._progress_at_s = time.monotonic()
        self._failed_count = 0
        _, future = self._messages.pop(answer.sequence_number, (None, None))
        if future is None or future.done():
            return
        if answer.HasField("error"):
            future.set_exception(error)
        else:
            future.set_result(event_conversion.read_receipt(answer))

    def pause_s(self, error: TwinrankError) -> float | None:
        """How long to wait before the next connection; None when it is time to give up."""
        too_many_streams = isinstance(error, Overloaded) and error.reason == "TOO_MANY_IN_FLIGHT"
        if not isinstance(error, Unavailable) and not too_many_streams:
            return None
        if time.monotonic() - self._progress_at_s > self._patience_s:
            return None
        self._failed_count += 1
        return min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** min(self._failed_count - 1, 10))

    def fail(self, error: TwinrankError) -> None:
        """Gives up: nobody knows what of the rest was written."""
        self.failure = error
        messages, self._messages = self._messages, {}
        for _, future in messages.values():
            if not future.done():
                future.set_exception(error)
