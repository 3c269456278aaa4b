"""Events over one long-lived call, from an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from twinrank.v1 import events_pb2 as pb

from twinrank_client.delivery import Delivery, TryAgain
from twinrank_client.errors import Failure, TwinrankError, Unavailable
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.status import error_from_rpc


class AsyncEventStream:
    """As EventStream, for asyncio: `await stream.send(events)` gives a future. Made by `AsyncClient.event_stream`."""

    def __init__(self, open_call: Callable[[AsyncIterator[Any]], Any], in_flight_max: int, patience_s: float) -> None:
        self._open_call = open_call
        self._in_flight_max = in_flight_max
        self._delivery: Delivery[asyncio.Future[WriteReceipt]] = Delivery(patience_s)
        self._changed = asyncio.Condition()
        self._connection_number = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def send(self, events: Sequence[Event]) -> asyncio.Future[WriteReceipt]:
        """Sends one message, waiting while too many are in flight. Raises the error that the stream gave up with."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        async with self._changed:
            await self._changed.wait_for(
                lambda: len(self._delivery) < self._in_flight_max or self._delivery.failure or self._closing
            )
            if self._delivery.failure is not None:
                raise self._delivery.failure
            if self._closing:
                raise RuntimeError("this event stream is closed")
            future: asyncio.Future[WriteReceipt] = asyncio.get_running_loop().create_future()
            self._delivery.add(events, future)
            self._changed.notify_all()
        return future

    async def close(self) -> None:
        """Waits until everything sent is acknowledged, or given up."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._task is not None:
            await self._task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self) -> None:
        while True:
            error = await self._converse()
            async with self._changed:
                self._connection_number += 1  # ends the feed of this connection
                self._changed.notify_all()
                if self._closing and not len(self._delivery):
                    return
                pause_s = self._delivery.pause_s(error)
                if pause_s is None:
                    self._delivery.fail(error)
                    self._changed.notify_all()
                    return
            await asyncio.sleep(pause_s)

    async def _converse(self) -> TwinrankError:
        """One connection, to its end; why it ended."""
        call = None
        try:
            call = self._open_call(self._feed(self._connection_number))
            async for answer in call:
                async with self._changed:
                    self._delivery.acknowledge(answer)
                    self._changed.notify_all()
        except TryAgain as again:
            return again.error
        except grpc.RpcError as error:
            return error_from_rpc(error, "")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not we: grpc.aio ends so what breaks while it writes.
        except (RuntimeError, grpc.aio.UsageError) as error:  # the client was closed
            return TwinrankError(Failure(grpc.StatusCode.CANCELLED, str(error)))
        finally:
            if call is not None:
                call.cancel()
        return Unavailable(Failure(grpc.StatusCode.UNAVAILABLE, "the server ended the stream"))

    async def _feed(self, connection_number: int) -> AsyncIterator[pb.StreamEventsRequest]:
        """What is not acknowledged, from the first on; ends with its connection, or when all is done."""
        number = self._delivery.first_number()
        while True:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: (
                        self._delivery.message(number) is not None  # noqa: B023 - asked at once
                        or self._connection_number != connection_number
                        or self._closing
                    )
                )
            message = self._delivery.message(number)
            if message is None or self._connection_number != connection_number:
                return
            number += 1
            yield message
