"""Writes events to the store, many requests at once: what has come while one write was under way is the next one.

One connection, one pipeline at a time, one command a person and request. A request is acknowledged when the store has
answered for all of its persons. If it refuses some, the request fails, and what the others had is written: sent again
with event ids, only the rest is new.

A visitor who signs in: the events with both ids go to the user, and what the store still has under the visitor is taken
over before the acknowledgement. Whether there is anything is asked in the same pipeline, by the head of the visitor's
state; that the two are one person is noted once in a while.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from valkey import exceptions as valkey_errors

from server.config import StateConfig
from server.errors import QueueFull, ShuttingDown, StoreIsDown, StoreIsFull
from server.events.batch import APPEND, AppendCommands, EventBatch
from server.events.domain import WriteReceipt
from server.events.sign_in import Pair, SignIns, ask
from server.state.keys import state_key
from server.store.address import StoreAddress
from server.store.connection import connect_async
from server.store.errors import StoreFull, StoreUnavailable, StoreUnfit, store_error

PIPELINE_EVENTS_MAX = 4_000
"""Events of one pipeline, a single larger request aside: about 0.1 s of the store's time."""
WAITING_EVENTS_MAX = 32_000
"""Events that wait for a pipeline; beyond it requests are refused and streams are read no further."""
RETRY_AFTER_MS = 1_000
"""What callers are asked to wait while the store is down: it is restarted within seconds."""
IDLE_S = 0.2
"""After so long without a write the connection is looked at before it is used: the store may have been restarted."""

_LOGGER = structlog.stdlib.get_logger("twinrank.events")


@dataclass(slots=True, eq=False)
class _Waiting:
    """One request's events, and who waits for them."""

    batch: EventBatch
    future: asyncio.Future[WriteReceipt]


class EventWriter:
    """Writes batches on the running event loop, from `start` to `stop`."""

    def __init__(self, address: StoreAddress, state: StateConfig, *, timeout_s: float, retry_after_ms: int) -> None:
        """`timeout_s`: of one pipeline. `retry_after_ms`: what callers are told when too many events wait."""
        self._timeout_s = timeout_s
        self._retry_after_ms = retry_after_ms
        self._client = connect_async(address, timeout_s=timeout_s)
        self._commands = AppendCommands(state)
        self._sign_ins = SignIns(self._commands.limits)
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._connection: Any = None
        self._used_at_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.waiting_count = 0
        self.written_count = 0
        self.duplicate_count = 0

    def start(self) -> None:
        """Begins to write."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what waits, then ends the connection."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._disconnect()
        await self._client.aclose()

    async def write(self, batch: EventBatch) -> WriteReceipt:
        """Returns when the store has the events.

        Raises:
            QueueFull, ShuttingDown: nothing was written.
            StoreIsFull: some of the persons' events may have been written, the others not.
            StoreIsDown: nobody knows.
        """
        return await self.submit(batch)

    def submit(self, batch: EventBatch) -> asyncio.Future[WriteReceipt]:
        """As `write`, without the waiting. Raises `QueueFull`, `ShuttingDown`."""
        if self._stopping:
            raise ShuttingDown
        if self.waiting_count and self.waiting_count + batch.count > WAITING_EVENTS_MAX:
            raise QueueFull(f"{self.waiting_count} events wait for the store", self._retry_after_ms)
        future: asyncio.Future[WriteReceipt] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(batch, future))
        self.waiting_count += batch.count
        if self.waiting_count >= WAITING_EVENTS_MAX // 2:
            self._room.clear()
        self._wake.set()
        return future

    def counts(self) -> dict[str, int]:
        """Events that were acknowledged, by what became of them."""
        return {"written": self.written_count, "duplicate": self.duplicate_count}

    async def until_room(self) -> None:
        """Waits while as many events wait as should: for streams, which can be read later."""
        while not self._room.is_set():
            await self._room.wait()

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            requests = self._take()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._write(requests)
            except Exception as error:  # the task is the only one: it must outlive whatever a write does
                await self._disconnect()
                self._fail(requests, error)
            self._used_at_s = time.monotonic()

    def _take(self) -> list[_Waiting]:
        """The requests of the next pipeline. Their events are copied out of what waits, and room is made."""
        taken: list[_Waiting] = []
        count = 0
        while self._waiting and (not taken or count + self._waiting[0].batch.count <= PIPELINE_EVENTS_MAX):
            request = self._waiting.popleft()
            count += request.batch.count
            taken.append(request)
        self.waiting_count -= count
        if self.waiting_count < WAITING_EVENTS_MAX // 2:
            self._room.set()
        return taken

    async def _write(self, requests: Sequence[_Waiting]) -> None:
        connection = await self._connected()
        exchanges = [_Exchange(request.batch, self._commands, self._sign_ins) for request in requests]
        await _send(connection, exchanges)
        outcomes = [await exchange.read(connection) for exchange in exchanges]
        for request, exchange, outcome in zip(requests, exchanges, outcomes, strict=True):
            if isinstance(outcome, valkey_errors.NoScriptError):  # none of its persons was written
                await ask(connection, b"SCRIPT", b"LOAD", APPEND.source)
                await _send(connection, [exchange])
                outcome = await exchange.read(connection)
            if isinstance(outcome, WriteReceipt):
                for pair in exchange.to_take_over:
                    await self._sign_ins.take_over(connection, pair)
            self._tell(request, outcome)

    async def _connected(self) -> Any:
        connection = self._connection
        if connection is not None and time.monotonic() - self._used_at_s > IDLE_S:
            try:
                stale = await connection.can_read_destructive()
            except (valkey_errors.ConnectionError, OSError):
                stale = True
            if stale:
                await self._disconnect()
                connection = None
        if connection is None:
            pool: Any = self._client.connection_pool
            connection = pool.make_connection()
            await connection.connect()
            connection.socket_timeout = None  # one limit for a pipeline, not one for each of its replies
            self._connection = connection
            await ask(connection, b"SCRIPT", b"LOAD", APPEND.source)
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    def _tell(self, request: _Waiting, outcome: WriteReceipt | Exception) -> None:
        if isinstance(outcome, WriteReceipt):
            self.written_count += outcome.written_count
            self.duplicate_count += outcome.duplicate_count
            if not request.future.done():
                request.future.set_result(outcome)
        else:
            self._fail((request,), outcome)

    def _fail(self, requests: Sequence[_Waiting], error: Exception) -> None:
        refusal = refusal_of(error)
        if refusal is not error:
            _LOGGER.warning("events were not written", reason=str(error) or type(error).__name__)
        for request in requests:
            if not request.future.done():
                request.future.set_exception(refusal)


class _Exchange:
    """One request's commands and their replies."""

    def __init__(self, batch: EventBatch, commands: AppendCommands, sign_ins: SignIns) -> None:
        self._batch = batch
        self._questions = sign_ins.questions(batch.sign_ins) if batch.sign_ins else None
        self.commands = self._questions.commands() if self._questions is not None else []
        self.commands += [commands.pack(person, events) for person, events in batch.persons.items()]
        self.to_take_over: list[Pair] = []

    async def read(self, connection: Any) -> WriteReceipt | Exception:
        """Reads the replies to all of the commands, whatever they are."""
        read = connection.read_response
        failure: Exception | None = None
        if self._questions is not None:
            self.to_take_over, failure = await self._questions.read(connection)
        written, newest_ms, newest = 0, -1, ""
        for person in self._batch.persons:
            try:
                count, last_ms = await read()
            except valkey_errors.ResponseError as error:
                failure = error
            else:
                written += count
                if last_ms > newest_ms:
                    newest_ms, newest = last_ms, person
        if failure is not None:
            return failure
        return WriteReceipt(written, self._batch.count - written, float(newest_ms), state_key(newest))


async def _send(connection: Any, exchanges: Sequence[_Exchange]) -> None:
    packed = b"".join([b"".join(exchange.commands) for exchange in exchanges])
    await connection.send_packed_command(packed, check_health=False)


def refusal_of(error: Exception) -> Exception:
    """What a caller is told when the store fails; an error that is none of the store's is itself."""
    if isinstance(error, TimeoutError):
        return StoreIsDown(RETRY_AFTER_MS)
    if isinstance(error, valkey_errors.ValkeyError | OSError):
        error = store_error(error)
    if isinstance(error, StoreFull):
        return StoreIsFull()
    if isinstance(error, StoreUnavailable | StoreUnfit):
        return StoreIsDown(RETRY_AFTER_MS)
    return error
