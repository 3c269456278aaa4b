"""Where an engine batch spends its time, stage by stage."""

from __future__ import annotations

import time

from server.domain import BatchTimings


class Stopwatch:
    """Adds up the microseconds of each stage over the groups of one batch."""

    def __init__(self) -> None:
        self._spent_us = {"state": 0.0, "user_tower": 0.0, "retrieve": 0.0, "rank": 0.0}
        self._last_ns = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        """Books the time since the last lap."""
        now_ns = time.perf_counter_ns()
        self._spent_us[stage] += (now_ns - self._last_ns) / 1_000
        self._last_ns = now_ns

    def timings(self, batch_size: int) -> BatchTimings:
        """What was booked."""
        return BatchTimings(
            state_us=int(self._spent_us["state"]),
            user_tower_us=int(self._spent_us["user_tower"]),
            retrieve_us=int(self._spent_us["retrieve"]),
            rank_us=int(self._spent_us["rank"]),
            batch_size=batch_size,
        )
