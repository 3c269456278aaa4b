"""One call each of the native front, and who waits for what of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.call import Call
from server.domain import RecommendQuery
from server.service import Work
from server.waiting import Answered, Desk, Entry, Outcome


class Finisher(Protocol):
    """What a reply needs of the table of calls."""

    def finish(self, reply: Reply, outcome: Sequence[Answered] | Exception, sent: Sent, /) -> None:
        """Sends the answer or the status of a call, unless the call is over; does not raise. On any thread."""


class Reply:
    """One call in flight, and the waiter of its query when it has one."""

    __slots__ = ("call", "call_id", "encode", "over", "own_deadline", "query_count", "table")

    def __init__(self, table: Finisher, call_id: int, call: Call, work: Work, *, own_deadline: bool) -> None:
        """`own_deadline`: the caller named none, so that the library does not end the call when it passes."""
        self.table = table
        self.call_id = call_id
        self.call = call
        self.query_count = len(work.queries)
        self.encode = work.encode
        self.own_deadline = own_deadline
        self.over = False

    @property
    def method(self) -> str:
        """Its name."""
        return self.call.method

    @property
    def came_at_s(self) -> float:
        """Since when it has been waiting."""
        return self.call.started_s

    @property
    def deadline_s(self) -> float:
        """When it has waited too long."""
        return self.call.deadline_s

    def done(self) -> bool:
        """Whether the caller has gone, or has its answer."""
        return self.over

    def answered(self, outcome: Outcome, sent: Sent) -> None:
        """The answer, or why there is none."""
        self.table.finish(self, outcome if isinstance(outcome, Exception) else (outcome,), sent)


class PlainReply(Entry["PlainReply"]):
    """One plain Recommend in flight: its call, its reply, its query's entry in the queue and the waiter for it, in one.

    Most calls are this. Beside an engine that streams megabytes through the caches, each object that a call is made of
    comes from memory again.
    """

    __slots__ = ("answered", "call_id", "metadata", "over", "own_deadline", "request_id")
    method = "Recommend"
    query: RecommendQuery

    def __init__(
        self,
        desk: Desk[PlainReply],
        call_id: int,
        metadata: Sequence[tuple[str, str | bytes]],
        came_at_s: float,
        deadline_s: float,
        own_deadline: bool,
        request_id: str,
        query: RecommendQuery,
    ) -> None:
        """`own_deadline`: as a Reply's."""
        self.query = query
        self.deadline_s = deadline_s
        self.queued_at_s = came_at_s
        self.desk = desk
        self.call_id = call_id
        self.metadata = metadata
        self.request_id = request_id
        self.own_deadline = own_deadline
        self.answered: Answered | None = None
        self.over = False

    @property
    def call(self) -> Call:
        """What logs, statuses and metrics know of it; most calls are never asked."""
        return Call(
            self.method, self.came_at_s, self.deadline_s, self.metadata.__iter__, self.request_id, self.answered
        )

    @property
    def came_at_s(self) -> float:
        """Since when it has been waiting."""
        return self.queued_at_s

    def done(self) -> bool:
        """Whether the caller has gone, or has its answer."""
        return self.over


Sent = list[Reply | PlainReply]
"""What was sent with an answer, to be counted."""


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

    def answered(self, outcome: Outcome, sent: Sent) -> None:
        """One of the answers; the last one completes the call."""
        reply, answers = self._reply, self._answers
        if isinstance(outcome, Exception):
            reply.table.finish(reply, outcome, sent)
            return
        answers[self._position] = outcome
        if len(answers) == reply.query_count:
            reply.table.finish(reply, [answers[position] for position in range(reply.query_count)], sent)


class Held:
    """A call that came too late, and waits for the end of its connection or of the hold."""

    __slots__ = ("call", "call_id")
    over = False

    def __init__(self, call_id: int, call: Call) -> None:
        self.call_id = call_id
        self.call = call
