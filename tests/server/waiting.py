"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 20.0


async def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Lets the loop run until the condition holds; fails the test when it never does."""
    give_up_at_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up_at_s, "the condition never came true"
        await asyncio.sleep(0.001)


def until_in_thread(condition: Callable[[], object]) -> None:
    """The same where no event loop runs."""
    asyncio.run(until(condition))
