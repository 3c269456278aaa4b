"""How long to wait before a worker that ended is replaced: not at all, unless workers die young again and again."""

from __future__ import annotations

from server.config import WorkersConfig

NOBODY_LEFT_DELAY_S_MAX = 1.0
"""While no worker answers there are no cores to spare for others, and every second is a second without answers."""


class Restarts:
    """Counts the ends that nobody asked for, and spaces the replacements in a crash loop."""

    def __init__(self, config: WorkersConfig) -> None:
        self._config = config
        self._young_in_a_row = 0
        self.crash_count = 0

    def delay_s(self, lived_s: float, *, others_answer: bool = True) -> float:
        """A worker has crashed after `lived_s`; how long to wait before another takes its place.

        The first that dies young is replaced at once; from the second on the wait doubles up to its limit, which is a
        lower one while no other worker answers. One that lived long enough ends the loop.
        """
        self.crash_count += 1
        if lived_s >= self._config.stable_after_s:
            self._young_in_a_row = 0
            return 0.0
        self._young_in_a_row += 1
        if self._young_in_a_row == 1:
            return 0.0
        doubled: float = self._config.restart_delay_s * 2.0 ** min(self._young_in_a_row - 2, 30)
        limit_s = self._config.restart_delay_s_max
        return min(doubled, limit_s if others_answer else min(limit_s, NOBODY_LEFT_DELAY_S_MAX))
