"""Permits for work in flight: taken without waiting, or the caller is told at once to come back later.

Waiting for a permit would only move the queue to where nobody can see it. Used on the event loop only, so a plain
counter is enough.
"""

from __future__ import annotations

import asyncio

from server.errors import ShuttingDown, TooManyInFlight


class Admission:
    """At most `in_flight_max` permits of one kind are out at any time; `what` names the kind in the refusal."""

    def __init__(self, what: str, in_flight_max: int, retry_after_ms: int) -> None:
        self._what = what
        self._in_flight_max = in_flight_max
        self._retry_after_ms = retry_after_ms
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.in_flight_count = 0

    def enter(self) -> None:
        """Takes a permit; whoever took one calls `leave` exactly once. Raises `TooManyInFlight`, `ShuttingDown`."""
        if self._closed:
            raise ShuttingDown
        if self.in_flight_count >= self._in_flight_max:
            raise TooManyInFlight(f"{self._in_flight_max} {self._what} are in flight already", self._retry_after_ms)
        self.in_flight_count += 1
        self._empty.clear()

    def leave(self) -> None:
        """Gives the permit back."""
        assert self.in_flight_count > 0, "more permits came back than went out"
        self.in_flight_count -= 1
        if self.in_flight_count == 0:
            self._empty.set()

    def close(self) -> None:
        """No permit goes out any more."""
        self._closed = True

    async def until_empty(self) -> None:
        """Waits until every permit is back."""
        await self._empty.wait()
