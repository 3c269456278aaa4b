"""Calls in flight on the native front, and who waits for what of them.

A call is over for whoever takes it out of the front's table first: the thread that served it with its answer, or the
one that receives with the caller's cancellation or deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from server.call import Call
from server.domain import RecommendQuery
from server.encoding import encode_recommend
from server.service import Work
from server.waiting import Answered, Desk, Entry, Outcome


class Front(Protocol):
    """What a reply needs of the front."""

    @property
    def tell(self) -> Desk[Any]:
        """The desk of all queries."""

    def finish(self, reply: Reply | PlainReply, outcome: Sequence[Answered] | Exception, sent: list[Call], /) -> None:
        """Sends the answer or the status of a call, unless the call is over; does not raise. On any thread."""


class Reply:
    """One call in flight, and the waiter of its query when it has one."""

    __slots__ = ("call", "call_id", "encode", "front", "over", "query_count")

    def __init__(self, front: Front, call_id: int, call: Call, work: Work) -> None:
        self.front = front
        self.call_id = call_id
        self.call = call
        self.query_count = len(work.queries)
        self.encode = work.encode
        self.over = False

    def done(self) -> bool:
        """Whether the caller has gone, or has its answer."""
        return self.over

    def answered(self, outcome: Outcome, sent: list[Call]) -> None:
        """The answer, or why there is none."""
        self.front.finish(self, outcome if isinstance(outcome, Exception) else (outcome,), sent)


class PlainReply(Entry["PlainReply"]):
    """One plain Recommend in flight: its reply, its query's entry in the queue and the waiter for it, all in one.

    Most calls are this. Beside an engine that streams megabytes through the caches, each object that a call is made of
    comes from memory again.
    """

    __slots__ = ("call", "call_id", "front", "over")

    def __init__(self, front: Front, call_id: int, call: Call, query: RecommendQuery) -> None:
        self.query = query
        self.deadline_s = call.deadline_s
        self.queued_at_s = call.started_s
        self.desk = front.tell
        self.front = front
        self.call_id = call_id
        self.call = call
        self.over = False

    @property
    def waiter(self) -> PlainReply:  # type: ignore[override]
        """Itself; no attribute, since an object that holds itself waits for the garbage collector."""
        return self

    def done(self) -> bool:
        """Whether the caller has gone, or has its answer."""
        return self.over

    def answered(self, outcome: Outcome, sent: list[Call]) -> None:
        """The answer, or why there is none."""
        self.front.finish(self, outcome if isinstance(outcome, Exception) else (outcome,), sent)

    def encode(self, answers: Sequence[Answered]) -> bytes:
        """The response on the wire."""
        assert isinstance(self.query, RecommendQuery)
        return encode_recommend(self.call.request_id, self.query, answers[0], timings=False)


class Part:
    """The waiter of one query of a call that has several."""

    __slots__ = ("_answers", "_position", "_reply")

    def __init__(self, reply: Reply, position: int, answers: dict[int, Answered]) -> None:
        self._reply = reply
        self._position = position
        self._answers = answers

    def done(self) -> bool:
        """Whether the caller has gone, or has its answer."""
        return self._reply.over

    def answered(self, outcome: Outcome, sent: list[Call]) -> None:
        """One of the answers; the last one completes the call."""
        reply, answers = self._reply, self._answers
        if isinstance(outcome, Exception):
            reply.front.finish(reply, outcome, sent)
            return
        answers[self._position] = outcome
        if len(answers) == reply.query_count:
            reply.front.finish(reply, [answers[position] for position in range(reply.query_count)], sent)


class Held:
    """A call that came too late, and waits for the end of its connection or of the hold."""

    __slots__ = ("call", "call_id")
    over = False

    def __init__(self, call_id: int, call: Call) -> None:
        self.call_id = call_id
        self.call = call
