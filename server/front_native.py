"""The front on pygrpc-native: HTTP/2 in Rust, bursts of unary calls answered without an event loop.

One thread does it all: it receives what has come, parses, admits, decodes and queues it, has the engine answer one
batch, encodes and sends. Nothing is handed from thread to thread, so nothing waits for the interpreter, and what comes
while the engine works waits in the library until the batch is out. What the library cannot serve (streams, health
watches, reflection) goes through it to a grpcio server on a unix socket. Everything that decides (service, admission,
batcher, table of statuses) is the grpcio front's.

    front thread: receive all that has come → begin each → serve one batch → tell: encode, respond or fail → receive …
    event loop:   the fallback's streams, health, reflection; start and stop; relief

Relief: a batch that takes the engine longer than RELIEF_AFTER_S must not keep callers from being refused, or from
running out of time. The event loop then receives in place of the front's thread, until the batch is over.

A call is over for whoever takes it out of `_calls` first: the thread that served it with its answer, or the one that
receives with the caller's cancellation or deadline (the library reports both as one event).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from grpc import aio
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from server.call import Call
from server.config import ServerConfig
from server.connections import end_connections
from server.decoding import parse
from server.encoding import encode_recommends
from server.errors import DeadlinePassed, MessageTooLarge, ShuttingDown
from server.front_grpcio import RECOMMENDATION_SERVICE, SHUTDOWN_HOLD_S, address_of
from server.logs import RequestLog
from server.metrics import Metrics
from server.native_replies import Held, Part, PlainReply, Reply, Sent
from server.service import RecommendationService, UnaryMethod
from server.status import encode_status, status_of
from server.waiting import Answered, Desk, Entry, Outcome

if TYPE_CHECKING:
    from pygrpc_native._native import DetailedEvent  # in its stub only

IO_THREADS = 1
"""Threads that speak HTTP/2 beside Python's; one is enough for an engine of one thread (docs/performance.md)."""

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
        self._metrics = metrics
        self._request_log = request_log
        self._batch_size_max = config.batching.batch_size_max
        self._message_size_bytes_max = limits.message_size_bytes_max
        self._default_deadline_s = limits.default_deadline_ms / 1000
        self._calls: dict[int, Reply | PlainReply] = {}
        self._timers: list[tuple[float, int, Reply | PlainReply | Held]] = []
        self._timer_numbers = itertools.count()
        self._receiving = threading.Lock()
        self._looked_at_s = 0.0
        self._serving_since_s: float | None = None
        self._relief_near = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._fallback = fallback
        self._desk: Desk[Any] = (
            self._tell
        )  # one bound method for all entries: the batcher tells desks apart by identity
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

    def finish(self, reply: Reply, outcome: Sequence[Answered] | Exception, sent: Sent) -> None:
        """Sends the answer or the status of a call, unless the call is over; does not raise. On any thread.

        What was sent with an answer is added to `sent`, to be counted; anything else is counted here.
        """
        if not self._end(reply):
            return
        if isinstance(outcome, Exception):
            self._fail(reply.call_id, reply.call, outcome)
            return
        reply.call.answered = outcome[0]
        try:
            encoded: bytes | Exception = reply.encode(outcome)
        except Exception as error:
            encoded = error
        self._send(reply, encoded, sent)

    def _finish_plain(self, replies: Sequence[PlainReply], answers: Sequence[Answered], sent: Sent) -> None:
        """As `finish`, of all plain requests that a batch has answered."""
        if not replies:
            return
        alive: list[PlainReply] = []
        for reply, answered in zip(replies, answers, strict=True):
            if self._calls.pop(reply.call_id, None) is not None:
                reply.over, reply.outcome = True, answered
                alive.append(reply)
        self._service.admission.leave(len(alive))
        encoded: list[bytes] | list[bytes | Exception] | list[Exception]
        try:
            encoded = encode_recommends(
                [reply.request_id for reply in alive],
                [reply.query for reply in alive],
                [reply.outcome.answer for reply in alive if reply.outcome is not None],
            )
        except Exception as error:
            encoded = [error] * len(alive)
        for reply, response in zip(alive, encoded, strict=True):
            self._send(reply, response, sent)

    def _end(self, reply: Reply | PlainReply) -> bool:
        """Takes a call out of the table, with its permit; False where another thread has."""
        if self._calls.pop(reply.call_id, None) is None:
            return False
        reply.over = True
        self._service.admission.leave()
        return True

    def _send(self, reply: Reply | PlainReply, encoded: bytes | Exception, sent: Sent) -> None:
        if isinstance(encoded, Exception):
            self._fail(reply.call_id, reply.call, encoded)
        elif self._front.respond(reply.call_id, encoded):
            sent.append(reply)
        else:
            self._count_gone(reply)

    def _run(self) -> None:
        while (received := self._receive()) is not None:
            burst, came_at_s = received
            try:
                with self._receiving:
                    self._gather(burst)
                    self._take(burst, came_at_s)
                    self._look_at_timers()
                if self._batcher.queue_length:
                    self._serve()
            except Exception as error:  # the thread is the only one: it must outlive whatever a burst does
                _LOGGER.exception("a burst could not be answered", call_count=len(burst))
                self._give_up(burst, error)

    def _receive(self) -> tuple[list[DetailedEvent], float] | None:
        """Events, and since when the first of them may have been there; waits while there is nothing to do."""
        came_at_s = self._looked_at_s
        events = self._front.recv_batch_details(BURST_SIZE_MAX, 0)
        if events == [] and not self._batcher.queue_length:
            events = self._front.recv_batch_details(BURST_SIZE_MAX, self._patience_ms())
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

    def _tell(self, told: Sequence[tuple[Entry[Reply | Part] | PlainReply, Outcome]]) -> None:
        """The desk of all queries: sends what has become complete, and counts it at once."""
        sent: Sent = []
        plain: list[PlainReply] = []
        answers: list[Answered] = []
        for entry, outcome in told:
            if not isinstance(entry, PlainReply):
                entry.waiter.answered(outcome, sent)
            elif not isinstance(outcome, Exception):
                plain.append(entry)
                answers.append(outcome)
            elif self._end(entry):
                self._fail(entry.call_id, entry.call, outcome)
        self._finish_plain(plain, answers, sent)
        now_s = time.monotonic()
        seconds = [now_s - reply.queued_at_s for reply in sent]
        by_method: defaultdict[str, list[float]] = defaultdict(list)
        for reply, its_seconds in zip(sent, seconds, strict=True):
            by_method[reply.method].append(its_seconds)
        self._metrics.calls_answered(by_method)
        self._request_log.answered_together(sent, seconds)

    def _take(self, burst: Sequence[DetailedEvent], came_at_s: float) -> None:
        """Begins calls and queues what they ask. `came_at_s`: no call is counted as younger than that."""
        now_s = self._looked_at_s = time.monotonic()
        asked = iter(
            self._service.plain([event[3] for event in burst if event[2] == _RECOMMEND and event[3] is not None])
        )
        plain: list[PlainReply] = []
        others: list[DetailedEvent] = []
        for event in burst:
            _, call_id, method_number, raw, _, details = event
            request = next(asked) if method_number == _RECOMMEND and raw is not None else None
            if request is None or details is None:
                others.append(event)
                continue
            metadata, _, remaining_s = details
            deadline_s = now_s + (self._default_deadline_s if remaining_s is None else remaining_s)
            request_id, query = request
            request_id = self._service.request_ids.of(request_id)
            plain.append(
                PlainReply(
                    self._desk,
                    call_id,
                    metadata,
                    came_at_s,
                    deadline_s,
                    request_id,
                    query,
                    own_deadline=remaining_s is None,
                )
            )
        if plain:
            self._begin_plain(plain)
        for (
            kind,
            call_id,
            method_number,
            raw,
            _,
            details,
        ) in others:  # a caller who has gone may be among the plain ones
            if kind != EVENT_CALL or raw is None or details is None:
                self._caller_gone(call_id)
                continue
            method = self._methods[method_number]
            metadata, _, remaining_s = details
            given_s = self._default_deadline_s if remaining_s is None else remaining_s
            call = Call(method.name, came_at_s, now_s + given_s, metadata.__iter__)
            try:
                self._begin(call_id, method, raw, call, own_deadline=remaining_s is None)
            except Exception as error:
                self._refuse(call_id, call, error)

    def _begin(self, call_id: int, method: UnaryMethod, raw: bytes, call: Call, *, own_deadline: bool) -> None:
        if len(raw) > self._message_size_bytes_max:
            raise MessageTooLarge(len(raw), self._message_size_bytes_max)
        work = self._service.begin(method, parse(method.request_type, raw), call)
        self._check_queue(len(work.queries), call.deadline_s, permit_count=1)
        reply = Reply(self, call_id, call, work, own_deadline=own_deadline)
        self._note([reply])
        answers: dict[int, Answered] = {}
        waiters = (
            [reply] if reply.query_count == 1 else [Part(reply, place, answers) for place in range(reply.query_count)]
        )
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
                self._refuse(replies[0].call_id, replies[0].call, error)
                return
            for reply in replies:
                self._begin_plain([reply])
            return
        self._note(replies)
        self._batcher.put(replies)

    def _note(self, replies: Iterable[Reply | PlainReply]) -> None:
        """Before their queries are queued: any thread may answer them from then on."""
        for reply in replies:
            self._calls[reply.call_id] = reply
            if reply.own_deadline:  # the library ends a call whose own deadline passes; for others we do
                self._set_timer(reply.deadline_s, reply)

    def _check_queue(self, query_count: int, deadline_s: float, *, permit_count: int) -> None:
        """Whether an admitted call's queries may be queued: if not, gives its permit back and raises."""
        try:
            self._batcher.check(query_count, deadline_s)
        except BaseException:
            self._service.admission.leave(permit_count)
            raise

    def _refuse(self, call_id: int, call: Call, error: Exception) -> None:
        """Fails a call that could not begin."""
        if isinstance(error, ShuttingDown):
            # As in the grpcio front: held until its connection ends, and its retry goes elsewhere.
            self._set_timer(time.monotonic() + SHUTDOWN_HOLD_S, Held(call_id, call))
        else:
            self._fail(call_id, call, error)

    def _caller_gone(self, call_id: int) -> None:
        reply = self._calls.get(call_id)
        if reply is not None and self._end(reply):
            self._count_gone(reply)

    def _count_gone(self, reply: Reply | PlainReply) -> None:
        now_s = time.monotonic()
        code = "DEADLINE_EXCEEDED" if now_s >= reply.deadline_s else "CANCELLED"
        self._metrics.call_done(reply.method, code, now_s - reply.queued_at_s)

    def _fail(self, call_id: int, call: Call, error: Exception) -> None:
        status = status_of(error, call.request_id)
        self._metrics.call_done(call.method, status.code_name, time.monotonic() - call.started_s)
        self._request_log.failed(call, status, error)
        # The library sends no `grpc-` header but this one: the push-back is in the details alone, as RetryInfo.
        details = (("grpc-status-details-bin", encode_status(status, call.request_id)),)
        self._front.fail(call_id, status.code, status.message, details)

    def _give_up(self, burst: Sequence[DetailedEvent], error: Exception) -> None:
        """Fails what did not begin of a burst, so that nobody waits for it."""
        for kind, call_id, *_ in burst:
            if kind == EVENT_CALL and call_id not in self._calls:
                status = status_of(error, "")
                self._front.fail(call_id, status.code, status.message)  # nothing comes of it where the call is over

    def _set_timer(self, when_s: float, what: Reply | PlainReply | Held) -> None:
        heapq.heappush(self._timers, (when_s, next(self._timer_numbers), what))

    def _patience_ms(self) -> int | None:
        """How long to wait for events: until the next timer, or for ever."""
        if not self._timers:
            return None
        return max(0, int((self._timers[0][0] - time.monotonic()) * 1000) + 1)

    def _look_at_timers(self) -> None:
        timers = self._timers
        if not timers:
            return
        now_s = time.monotonic()
        while timers and (timers[0][0] <= now_s or timers[0][2].over):
            _, _, what = heapq.heappop(timers)
            if isinstance(what, Held):
                self._fail(what.call_id, what.call, ShuttingDown())
            elif self._end(what):
                self._fail(what.call_id, what.call, DeadlinePassed("the answer was ready"))

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
                self._take(self._front.recv_batch_details(BURST_SIZE_MAX, 0) or (), self._looked_at_s)
                self._look_at_timers()
            finally:
                self._receiving.release()
