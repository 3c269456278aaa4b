"""Events over one long-lived call, from threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import grpc
from twinrank.v1 import events_pb2 as pb

from twinrank_client.delivery import Delivery, TryAgain
from twinrank_client.errors import Failure, TwinrankError, Unavailable
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.status import error_from_rpc


class EventStream:
    """Writes events over one stream, message by message; threads may share it. Made by `Client.event_stream`.

    `send` returns at once with a future, which has the receipt when the store has the events, or the error. It waits
    while `in_flight_max` messages are not acknowledged. When the connection breaks, what is not acknowledged is sent
    again on a new one; after `patience_s` without any acknowledgement the stream gives up.
    """

    def __init__(self, open_call: Callable[[Iterator[Any]], Any], in_flight_max: int, patience_s: float) -> None:
        self._open_call = open_call
        self._in_flight_max = in_flight_max
        self._delivery: Delivery[Future[WriteReceipt]] = Delivery(patience_s)
        self._changed = threading.Condition()
        self._connection_number = 0
        self._closing = False
        self._call: Any = None
        self._thread = threading.Thread(target=self._run, name="twinrank-events", daemon=True)
        self._thread.start()

    def send(self, events: Sequence[Event]) -> Future[WriteReceipt]:
        """Sends one message. Raises the error that the stream gave up with."""
        future: Future[WriteReceipt] = Future()
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._delivery) < self._in_flight_max or self._delivery.failure or self._closing
            )
            if self._delivery.failure is not None:
                raise self._delivery.failure
            if self._closing:
                raise RuntimeError("this event stream is closed")
            self._delivery.add(events, future)
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Waits until everything sent is acknowledged, or given up."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            error = self._converse()
            with self._changed:
                self._connection_number += 1  # ends the feed of this connection
                self._changed.notify_all()
                if self._closing and not len(self._delivery):
                    return
                pause_s = self._delivery.pause_s(error)
                if pause_s is None:
                    self._delivery.fail(error)
                    self._changed.notify_all()
                    return
                self._changed.wait_for(lambda: self._closing and not len(self._delivery), pause_s)

    def _converse(self) -> TwinrankError:
        """One connection, to its end; why it ended."""
        call = None
        try:
            call = self._open_call(self._feed(self._connection_number))
            for answer in call:
                with self._changed:
                    self._delivery.acknowledge(answer)
                    self._changed.notify_all()
        except TryAgain as again:
            return again.error
        except grpc.RpcError as error:
            return error_from_rpc(error, "")
        except (RuntimeError, ValueError) as error:  # the client was closed
            return TwinrankError(Failure(grpc.StatusCode.CANCELLED, str(error)))
        finally:
            if call is not None:
                call.cancel()
        return Unavailable(Failure(grpc.StatusCode.UNAVAILABLE, "the server ended the stream"))

    def _feed(self, connection_number: int) -> Iterator[pb.StreamEventsRequest]:
        """What is not acknowledged, from the first on; ends with its connection, or when all is done."""
        with self._changed:
            number = self._delivery.first_number()
        while True:
            with self._changed:
                message = self._delivery.message(number)
                while message is None:
                    if self._connection_number != connection_number or self._closing:
                        return
                    self._changed.wait()
                    message = self._delivery.message(number)
            if self._connection_number != connection_number:
                return
            number += 1
            yield message
