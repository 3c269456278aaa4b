"""Permits for work in flight: taken without waiting, or the caller is told at once to come back later.

Waiting for a permit would only move the queue to where nobody can see it. Permits go out and come back on any thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock

from server.errors import ShuttingDown, TooManyInFlight


class Admission:
    """At most `in_flight_max` permits of one kind are out at any time; `what` names the kind in the refusal."""

    def __init__(self, what: str, in_flight_max: int, retry_after_ms: int) -> None:
        self._what = what
        self._in_flight_max = in_flight_max
        self._retry_after_ms = retry_after_ms
        self._closed = False
        self._lock = Lock()
        self._on_empty: Callable[[], object] | None = None
        self.in_flight_count = 0

    def enter(self, count: int = 1) -> None:
        """Takes permits, all or none; each is given back by `leave` exactly once. Raises `TooManyInFlight`,
        `ShuttingDown`."""
        with self._lock:
            if self._closed:
                raise ShuttingDown
            if self.in_flight_count + count <= self._in_flight_max:
                self.in_flight_count += count
                return
        raise TooManyInFlight(f"{self._in_flight_max} {self._what} are in flight already", self._retry_after_ms)

    def leave(self, count: int = 1) -> None:
        """Gives permits back."""
        with self._lock:
            assert self.in_flight_count >= count, "more permits came back than went out"
            self.in_flight_count -= count
            on_empty = self._on_empty if self.in_flight_count == 0 else None
        if on_empty is not None:
            on_empty()

    def close(self) -> None:
        """No permit goes out any more."""
        with self._lock:
            self._closed = True

    async def until_empty(self) -> None:
        """Waits until every permit is back. For one caller at a time, on an event loop."""
        loop, emptied = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            if self.in_flight_count == 0:
                return
            self._on_empty = lambda: loop.call_soon_threadsafe(emptied.set)
        try:
            await emptied.wait()
        finally:
            self._on_empty = None
