"""The front on pygrpc-native: HTTP/2 in Rust, bursts of unary calls answered without an event loop.

One thread does it all: it receives what has come, parses, admits, decodes and queues it, has the engine answer one
batch, encodes and sends. Nothing is handed from thread to thread, so nothing waits for the interpreter, and what comes
while the engine works waits in the library until the batch is out. What the library cannot serve (streams, health
watches, reflection) goes through it to a grpcio server on a unix socket. Everything that decides (service, admission,
batcher, table of statuses) is the grpcio front's.

    front thread: receive all that has come → begin calls → serve one batch → tell: encode, respond or fail → receive …
    event loop:   the fallback's streams, health, reflection; start and stop; relief

Relief: a batch that takes the engine longer than RELIEF_AFTER_S must not keep callers from being refused, or from
running out of time. The event loop then receives in place of the front's thread, until the batch is over.

How calls end is `native_calls`'s.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from grpc import aio
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from server.call import Call
from server.config import ServerConfig
from server.connections import end_connections
from server.decoding import parse
from server.errors import MessageTooLarge
from server.front_grpcio import RECOMMENDATION_SERVICE, address_of
from server.logs import RequestLog
from server.metrics import Metrics
from server.native_calls import CallsInFlight
from server.native_replies import Part, PlainReply, Reply
from server.niceness import wake_without_interrupting
from server.service import RecommendationService, UnaryMethod
from server.waiting import Answered, Desk, Entry

if TYPE_CHECKING:
    from pygrpc_native._native import DetailedEvent  # in its stub only

IO_THREADS = 1
"""Threads that speak HTTP/2 beside Python's; one is enough for an engine of one thread (docs/performance.md)."""
IO_THREAD_NAME = "grpc-native-io"
"""What the library calls them."""

_RECOMMEND = 0
"""Its place among the service's methods."""
BURST_SIZE_MAX = 1_024
"""Events taken at once: more than the queue holds, so that what is too much is refused and not left to wait unseen."""

RELIEF_AFTER_S = 0.05
"""How long the engine may hold the front's thread before the event loop receives in its place: several full batches."""

_LOGGER = structlog.stdlib.get_logger("twinrank.server")


class NativeFront:
    """The public listener on pygrpc-native. The port is known from the beginning; `fallback` is not yet bound."""

    def __init__(
        self,
        config: ServerConfig,
        service: RecommendationService,
        fallback: aio.Server,
        metrics: Metrics,
        request_log: RequestLog,
    ) -> None:
        limits, listen = config.limits, config.listen
        self._service = service
        self._batcher = service.batcher
        self._methods = service.methods
        self._batch_size_max = config.batching.batch_size_max
        self._message_size_bytes_max = limits.message_size_bytes_max
        self._default_deadline_s = limits.default_deadline_ms / 1000
        self._receiving = threading.Lock()
        self._looked_at_s = 0.0
        self._serving_since_s: float | None = None
        self._relief_near = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._fallback = fallback
        self._front = NativeGrpcFront(
            address_of(listen.host, listen.port),
            [(f"/{RECOMMENDATION_SERVICE}/{method.name}", False) for method in self._methods],
            IO_THREADS,
            call_details=True,
            keepalive_time_ms=int(listen.keepalive_interval_s * 1000),
            keepalive_timeout_ms=int(listen.keepalive_timeout_s * 1000),
            max_concurrent_streams=limits.streams_per_connection_max,
            max_metadata_size=limits.metadata_size_bytes_max,
            reuse_port=listen.port_shared,
        )
        self._in_flight = CallsInFlight(self._front, service.admission, metrics, request_log)
        self._desk: Desk[Any] = self._in_flight.tell  # one object for all entries: desks are told apart by identity
        self.port = self._front.bound_port
        self._fallback_dir = Path(tempfile.mkdtemp(prefix="twinrank-"))  # for this user only
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)

    async def start(self) -> None:
        """Begins to answer."""
        path = str(self._fallback_dir / "fallback.sock")
        self._fallback.add_insecure_port(f"unix:{path}")
        await self._fallback.start()
        self._front.set_fallback(path)
        self._front.start()
        self._thread.start()

    async def stop(self) -> None:
        """Ends the connections, then the front: whatever is still in flight fails with UNAVAILABLE."""
        end_connections(self.port)
        await asyncio.to_thread(self._front.close)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        await self._fallback.stop(None)
        shutil.rmtree(self._fallback_dir, ignore_errors=True)

    def _run(self) -> None:
        received = self._receive()
        wake_without_interrupting(IO_THREAD_NAME)  # by now it is there and has its name
        while received is not None:
            burst, came_at_s = received
            try:
                with self._receiving:
                    self._gather(burst)
                    self._take(burst, came_at_s)
                    self._in_flight.look_at_timers()
                if self._batcher.queue_length:
                    self._serve()
            except Exception:  # the thread is the only one: it must outlive whatever a burst does
                _LOGGER.exception("a burst could not be answered", call_count=len(burst))
            received = self._receive()

    def _receive(self) -> tuple[list[DetailedEvent], float] | None:
        """Events, and since when the first of them may have been there; waits while there is nothing to do."""
        came_at_s = self._looked_at_s
        events = self._front.recv_batch_details(BURST_SIZE_MAX, 0)
        if events == []:
            with self._receiving:  # until the relief has queued what it received: nobody would wake this thread for it
                nothing_waits, patience_ms = not self._batcher.queue_length, self._in_flight.patience_ms()
            if nothing_waits:
                events = self._front.recv_batch_details(BURST_SIZE_MAX, patience_ms)
                came_at_s = time.monotonic()
        return None if events is None else (events, came_at_s)

    def _gather(self, burst: list[DetailedEvent]) -> None:
        """Adds what comes while the library's threads have something to read, up to a batch: the core is left to
        them, and when nothing has come of it the batch goes. This is no wait: with nothing to read it costs 2 µs.
        """
        while len(burst) + self._batcher.queue_length < self._batch_size_max:
            os.sched_yield()
            events = self._front.recv_batch_details(BURST_SIZE_MAX, 0)
            if not events:
                return
            burst += events

    def _serve(self) -> None:
        self._serving_since_s = time.monotonic()
        self._call_for_relief()
        try:
            self._batcher.serve()
        finally:
            self._serving_since_s = None

    def _take(self, burst: Sequence[DetailedEvent], came_at_s: float) -> None:
        """Begins calls and queues what they ask. `came_at_s`: no call is counted as younger than that."""
        now_s = self._looked_at_s = time.monotonic()
        raws = [event[3] for event in burst if event[2] == _RECOMMEND and event[3] is not None]
        asked = iter(self._service.plain(raws))
        plain: list[PlainReply] = []
        others: list[DetailedEvent] = []
        for event in burst:
            _, call_id, method_number, raw, _, details = event
            request = next(asked) if method_number == _RECOMMEND and raw is not None else None
            if request is None or details is None:
                if call_id in self._in_flight:  # the end of a call: its permit may be for one of this burst
                    self._in_flight.caller_gone(call_id)
                else:
                    others.append(event)
                continue
            metadata, _, remaining_s = details
            given_s = self._default_deadline_s if remaining_s is None else remaining_s
            plain.append(
                PlainReply(self._desk, call_id, metadata, came_at_s, now_s + given_s, remaining_s is None, *request)
            )
        if plain:
            self._begin_plain(plain)
        for event in others:
            self._take_other(event, came_at_s, now_s)

    def _take_other(self, event: DetailedEvent, came_at_s: float, now_s: float) -> None:
        """A call that is not plain, or the end of one that began with this burst."""
        kind, call_id, method_number, raw, _, details = event
        if kind != EVENT_CALL or raw is None or details is None:
            self._in_flight.caller_gone(call_id)
            return
        method = self._methods[method_number]
        metadata, _, remaining_s = details
        given_s = self._default_deadline_s if remaining_s is None else remaining_s
        call = Call(method.name, came_at_s, now_s + given_s, metadata.__iter__)
        try:
            self._begin(call_id, method, raw, call, own_deadline=remaining_s is None)
        except Exception as error:
            self._in_flight.refuse(call_id, call, error)

    def _begin(self, call_id: int, method: UnaryMethod, raw: bytes, call: Call, *, own_deadline: bool) -> None:
        if len(raw) > self._message_size_bytes_max:
            raise MessageTooLarge(len(raw), self._message_size_bytes_max)
        work = self._service.begin(method, parse(method.request_type, raw), call)
        self._check_queue(len(work.queries), call.deadline_s, permit_count=1)
        reply = Reply(self._in_flight, call_id, call, work, own_deadline=own_deadline)
        self._in_flight.note([reply])
        answers: dict[int, Answered] = {}
        places = range(reply.query_count)
        waiters = [reply] if reply.query_count == 1 else [Part(reply, place, answers) for place in places]
        self._batcher.put(
            Entry(query, call.deadline_s, call.started_s, waiter, self._desk)
            for query, waiter in zip(work.queries, waiters, strict=True)
        )

    def _begin_plain(self, replies: Sequence[PlainReply]) -> None:
        """Admits and queues them together; each alone where that cannot be, so that it is refused for itself."""
        deadline_s = min([reply.deadline_s for reply in replies])
        try:
            self._service.admit(len(replies), deadline_s)
            self._check_queue(len(replies), deadline_s, permit_count=len(replies))
        except Exception as error:
            if len(replies) == 1:
                self._in_flight.refuse(replies[0].call_id, replies[0].call, error)
                return
            for reply in replies:
                self._begin_plain([reply])
            return
        self._in_flight.note(replies)
        self._batcher.put(replies)

    def _check_queue(self, query_count: int, deadline_s: float, *, permit_count: int) -> None:
        """Whether the queries of admitted calls may be queued: if not, gives their permits back and raises."""
        try:
            self._batcher.check(query_count, deadline_s)
        except BaseException:
            self._service.admission.leave(permit_count)
            raise

    def _call_for_relief(self) -> None:
        """Lets the event loop look after a while whether the engine is still at it."""
        if self._relief_near.acquire(blocking=False):
            self._loop.call_soon_threadsafe(self._loop.call_later, RELIEF_AFTER_S, self._relieve)

    def _relieve(self) -> None:
        """On the event loop, for as long as batch follows batch: receives if this one takes too long."""
        self._relief_near.release()
        since_s = self._serving_since_s
        if since_s is None or not self._relief_near.acquire(blocking=False):
            return  # nothing is served, or the next batch has called already
        self._loop.call_later(RELIEF_AFTER_S, self._relieve)
        if time.monotonic() - since_s >= RELIEF_AFTER_S and self._receiving.acquire(blocking=False):
            try:
                if self._serving_since_s is not None:  # else the front's thread may be about to wait for events
                    self._take(self._front.recv_batch_details(BURST_SIZE_MAX, 0) or (), self._looked_at_s)
                    self._in_flight.look_at_timers()
            finally:
                self._receiving.release()
