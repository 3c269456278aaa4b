"""The front on pygrpc-native: HTTP/2 in Rust, bursts of unary calls handed to the engine without an event loop.

One thread receives what has come, parses, admits, decodes and queues a whole burst; the engine's thread encodes each
answer and sends it. What the library cannot serve (streams, health watches, reflection) goes through it to a grpcio
server on a unix socket. Everything that decides (service, admission, batcher, table of statuses) is the grpcio front's.

    receiving thread: receive a burst → begin each → queue ─┐            ┌→ encode → respond or fail
    engine thread:                                          └→ a batch ──┘
    event loop:       the fallback's streams, health, reflection; start and stop

A call is over for whoever takes it out of `_calls` first: the engine's thread with its answer, or the receiving thread
with the caller's cancellation or deadline (the library reports both as one event).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from grpc import aio
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from server.batching import Answered, Entry
from server.call import Call
from server.config import ServerConfig
from server.connections import end_connections
from server.decoding import parse
from server.errors import DeadlinePassed, MessageTooLarge, ShuttingDown
from server.front_grpcio import RECOMMENDATION_SERVICE, SHUTDOWN_HOLD_S, address_of
from server.logs import RequestLog
from server.metrics import Metrics
from server.service import RecommendationService, UnaryMethod, Work
from server.status import encode_status, status_of

if TYPE_CHECKING:
    from pygrpc_native._native import DetailedEvent  # in its stub only

IO_THREADS = 1
"""Threads that speak HTTP/2 beside Python's; one is enough for an engine of one thread (docs/performance.md)."""

_LOGGER = structlog.stdlib.get_logger("twinrank.server")


class _Reply:
    """One call in flight, and the waiter of its query."""

    __slots__ = ("_front", "call", "call_id", "over", "work")

    def __init__(self, front: NativeFront, call_id: int, call: Call, work: Work) -> None:
        self._front = front
        self.call_id = call_id
        self.call = call
        self.work = work
        self.over = False

    def done(self) -> bool:
        return self.over

    def answered(self, outcome: Answered | Exception) -> None:
        self._front.finish(self, outcome if isinstance(outcome, Exception) else (outcome,))

    def answered_in_part(self, answers: dict[int, Answered]) -> None:
        count = len(self.work.queries)
        if len(answers) == count:
            self._front.finish(self, [answers[position] for position in range(count)])


class _Part:
    """The waiter of one query of a call that has several. All parts of a call are told on the engine thread."""

    __slots__ = ("_answers", "_position", "_reply")

    def __init__(self, reply: _Reply, position: int, answers: dict[int, Answered]) -> None:
        self._reply = reply
        self._position = position
        self._answers = answers

    def done(self) -> bool:
        return self._reply.over

    def answered(self, outcome: Answered | Exception) -> None:
        if isinstance(outcome, Exception):
            self._reply.answered(outcome)
            return
        self._answers[self._position] = outcome
        self._reply.answered_in_part(self._answers)


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
        self._methods = service.methods
        self._metrics = metrics
        self._request_log = request_log
        self._burst_size_max = config.batching.batch_size_max
        self._message_size_bytes_max = limits.message_size_bytes_max
        self._default_deadline_s = limits.default_deadline_ms / 1000
        self._calls: dict[int, _Reply] = {}
        self._timers: list[tuple[float, int, _Reply | _Held]] = []
        self._timer_numbers = itertools.count()
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

    def finish(self, reply: _Reply, outcome: Sequence[Answered] | Exception) -> None:
        """Sends the answer or the status of a call, unless the call is over. On any thread; does not raise."""
        if self._calls.pop(reply.call_id, None) is None:
            return
        reply.over = True
        self._service.admission.leave()
        call = reply.call
        if isinstance(outcome, Exception):
            self._fail(reply.call_id, call, outcome)
            return
        call.answered = outcome[0]
        try:
            encoded = reply.work.encode(outcome).SerializeToString()
        except Exception as error:
            self._fail(reply.call_id, call, error)
            return
        sent = self._front.respond(reply.call_id, encoded)
        seconds = time.monotonic() - call.started_s
        if sent:
            self._metrics.call_done(call.method, "OK", seconds)
            self._request_log.answered(call, seconds)
        else:
            self._metrics.call_done(call.method, _code_of_the_gone(call), seconds)

    def _run(self) -> None:
        while True:
            events = self._front.recv_batch_details(self._burst_size_max, self._patience_ms())
            if events is None:
                return
            try:
                self._take(events)
                self._look_at_timers()
            except Exception:  # the thread is the only one: it must outlive whatever a burst does
                _LOGGER.exception("a burst could not be taken", call_count=len(events))

    def _take(self, events: Sequence[DetailedEvent]) -> None:
        """Begins the calls of a burst and queues what they ask, all at once."""
        now_s = time.monotonic()
        entries: list[Entry] = []
        try:
            for kind, call_id, method_number, raw, _, details in events:
                if kind != EVENT_CALL or raw is None or details is None:
                    self._caller_gone(call_id)
                    continue
                method = self._methods[method_number]
                metadata, _, remaining_s = details
                given_s = self._default_deadline_s if remaining_s is None else remaining_s
                call = Call(method.name, now_s, now_s + given_s, lambda metadata=metadata: metadata)  # type: ignore[misc]
                try:
                    entries += self._begin(call_id, method, raw, call, len(entries), own_deadline=remaining_s is None)
                except ShuttingDown:
                    # As in the grpcio front: held until its connection ends, and its retry goes elsewhere.
                    self._set_timer(now_s + SHUTDOWN_HOLD_S, _Held(call_id, call))
                except Exception as error:
                    self._fail(call_id, call, error)
        finally:
            self._service.batcher.put(entries)

    def _begin(
        self, call_id: int, method: UnaryMethod, raw: bytes, call: Call, ahead_count: int, *, own_deadline: bool
    ) -> list[Entry]:
        if len(raw) > self._message_size_bytes_max:
            raise MessageTooLarge(len(raw), self._message_size_bytes_max)
        service = self._service
        work = service.begin(method, parse(method.request_type, raw), call)
        try:
            queued_at_s = service.batcher.check(len(work.queries), call.deadline_s, ahead_count)
        except BaseException:
            service.admission.leave()
            raise
        reply = _Reply(self, call_id, call, work)
        self._calls[call_id] = reply
        if own_deadline:  # the library ends a call whose own deadline passes; for a call that brought none we do
            self._set_timer(call.deadline_s, reply)
        if len(work.queries) == 1:
            return [Entry(work.queries[0], call.deadline_s, queued_at_s, reply)]
        answers: dict[int, Answered] = {}
        return [
            Entry(query, call.deadline_s, queued_at_s, _Part(reply, position, answers))
            for position, query in enumerate(work.queries)
        ]

    def _caller_gone(self, call_id: int) -> None:
        reply = self._calls.pop(call_id, None)
        if reply is None:
            return
        reply.over = True
        self._service.admission.leave()
        call = reply.call
        self._metrics.call_done(call.method, _code_of_the_gone(call), time.monotonic() - call.started_s)

    def _fail(self, call_id: int, call: Call, error: Exception) -> None:
        status = status_of(error, call.request_id)
        self._metrics.call_done(call.method, status.code_name, time.monotonic() - call.started_s)
        self._request_log.failed(call, status, error)
        # The library sends no `grpc-` header but this one: the push-back is in the details alone, as RetryInfo.
        details = (("grpc-status-details-bin", encode_status(status, call.request_id)),)
        self._front.fail(call_id, status.code, status.message, details)

    def _set_timer(self, when_s: float, what: _Reply | _Held) -> None:
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
            if isinstance(what, _Held):
                self._fail(what.call_id, what.call, ShuttingDown())
            elif not what.over:
                self.finish(what, DeadlinePassed("the answer was ready"))


class _Held:
    """A call that came too late, and waits for the end of its connection or of the hold."""

    __slots__ = ("call", "call_id")
    over = False

    def __init__(self, call_id: int, call: Call) -> None:
        self.call_id = call_id
        self.call = call


def _code_of_the_gone(call: Call) -> str:
    return "DEADLINE_EXCEEDED" if time.monotonic() >= call.deadline_s else "CANCELLED"
