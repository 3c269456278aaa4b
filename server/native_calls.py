"""The native front's calls in flight, and how each of them ends: with its answer, a status, or without anybody there.

A call is over for whoever takes it out of the table first: the thread that served it with its answer, or the one that
receives with the caller's cancellation or deadline (the library reports both as one event). Timers are for whoever
receives, one thread at a time; the rest is safe from any thread.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pygrpc_native import NativeGrpcFront

from server.admission import Admission
from server.call import Call
from server.encoding import encode_recommends
from server.errors import DeadlinePassed, ShuttingDown
from server.front_grpcio import SHUTDOWN_HOLD_S
from server.logs import RequestLog
from server.metrics import Metrics
from server.native_replies import Held, Part, PlainReply, Reply, Sent
from server.status import encode_status, status_of
from server.waiting import Answered, Entry, Outcome


class CallsInFlight:
    """Those that were admitted; every one leaves the table, and gives its permit back, once."""

    def __init__(self, front: NativeGrpcFront, admission: Admission, metrics: Metrics, request_log: RequestLog) -> None:
        self._front = front
        self._admission = admission
        self._metrics = metrics
        self._request_log = request_log
        self._calls: dict[int, Reply | PlainReply] = {}
        self._timers: list[tuple[float, int, Reply | PlainReply | Held]] = []
        self._timer_numbers = itertools.count()

    def __contains__(self, call_id: int) -> bool:
        return call_id in self._calls

    def note(self, replies: Iterable[Reply | PlainReply]) -> None:
        """Before their queries are queued: any thread may answer them from then on."""
        for reply in replies:
            self._calls[reply.call_id] = reply
            if reply.own_deadline:  # the library ends a call whose own deadline passes; for others we do
                self._set_timer(reply.deadline_s, reply)

    def tell(self, told: Sequence[tuple[Entry[Reply | Part] | PlainReply, Outcome]]) -> None:
        """The desk of all queries: sends what has become complete, and counts it at once."""
        sent: Sent = []
        plain: list[tuple[PlainReply, Answered]] = []
        for entry, outcome in told:
            if not isinstance(entry, PlainReply):
                entry.waiter.answered(outcome, sent)
            elif not isinstance(outcome, Exception):
                plain.append((entry, outcome))
            elif self._end(entry):
                self._fail(entry.call_id, entry.call, outcome)
        self._finish_plain(plain, sent)
        now_s = time.monotonic()
        seconds = [now_s - reply.came_at_s for reply in sent]
        by_method: defaultdict[str, list[float]] = defaultdict(list)
        for reply, its_seconds in zip(sent, seconds, strict=True):
            by_method[reply.method].append(its_seconds)
        self._metrics.calls_answered(by_method)
        self._request_log.answered_together(sent, seconds)

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

    def caller_gone(self, call_id: int) -> None:
        """The caller has hung up, or its deadline has passed."""
        reply = self._calls.get(call_id)
        if reply is not None and self._end(reply):
            self._count_gone(reply)

    def refuse(self, call_id: int, call: Call, error: Exception) -> None:
        """Fails a call that could not begin."""
        if isinstance(error, ShuttingDown):
            # As in the grpcio front: held until its connection ends, and its retry goes elsewhere.
            self._set_timer(time.monotonic() + SHUTDOWN_HOLD_S, Held(call_id, call))
        else:
            self._fail(call_id, call, error)

    def patience_ms(self) -> int | None:
        """How long to wait for events: until the next timer, or for ever."""
        if not self._timers:
            return None
        return max(0, int((self._timers[0][0] - time.monotonic()) * 1000) + 1)

    def look_at_timers(self) -> None:
        """Ends those whose time has come."""
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

    def _set_timer(self, when_s: float, what: Reply | PlainReply | Held) -> None:
        heapq.heappush(self._timers, (when_s, next(self._timer_numbers), what))

    def _finish_plain(self, answered: Sequence[tuple[PlainReply, Answered]], sent: Sent) -> None:
        """As `finish`, of all plain requests that a batch has answered."""
        alive: list[tuple[PlainReply, Answered]] = []
        for reply, its_answer in answered:
            if self._calls.pop(reply.call_id, None) is not None:
                reply.over, reply.answered = True, its_answer
                alive.append((reply, its_answer))
        if not alive:
            return
        self._admission.leave(len(alive))
        encoded: Sequence[bytes | Exception]
        try:
            encoded = encode_recommends(
                [reply.request_id for reply, _ in alive],
                [reply.query for reply, _ in alive],
                [its_answer.answer for _, its_answer in alive],
            )
        except Exception as error:
            encoded = [error] * len(alive)
        for (reply, _), response in zip(alive, encoded, strict=True):
            self._send(reply, response, sent)

    def _end(self, reply: Reply | PlainReply) -> bool:
        """Takes a call out of the table, with its permit; False where another thread has."""
        if self._calls.pop(reply.call_id, None) is None:
            return False
        reply.over = True
        self._admission.leave()
        return True

    def _send(self, reply: Reply | PlainReply, encoded: bytes | Exception, sent: Sent) -> None:
        if isinstance(encoded, Exception):
            self._fail(reply.call_id, reply.call, encoded)
        elif self._front.respond(reply.call_id, encoded):
            sent.append(reply)
        else:
            self._count_gone(reply)

    def _count_gone(self, reply: Reply | PlainReply) -> None:
        now_s = time.monotonic()
        code = "DEADLINE_EXCEEDED" if now_s >= reply.deadline_s else "CANCELLED"
        self._metrics.call_done(reply.method, code, now_s - reply.came_at_s)

    def _fail(self, call_id: int, call: Call, error: Exception) -> None:
        status = status_of(error, call.request_id)
        self._metrics.call_done(call.method, status.code_name, time.monotonic() - call.started_s)
        self._request_log.failed(call, status, error)
        # The library sends no `grpc-` header but this one: the push-back is in the details alone, as RetryInfo.
        details = (("grpc-status-details-bin", encode_status(status, call.request_id)),)
        self._front.fail(call_id, status.code, status.message, details)
