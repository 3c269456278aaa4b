"""What else the machine does, and an end of a benchmark that leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import psutil

LOOK_S = 2.0
Found = TypeVar("Found")


async def busy_beside() -> dict[str, float]:
    """How many cores others keep busy just before a benchmark begins, of how many, and how many would like one."""
    cores = os.cpu_count() or 1
    busy = await asyncio.to_thread(psutil.cpu_percent, LOOK_S)
    return {
        "cores": cores,
        "cores_busy_before": round(busy / 100 * cores, 2),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


async def ended_by_sigterm(work: Coroutine[Any, Any, Found]) -> Found:
    """Awaits the work; SIGTERM cancels it, so that what it has started is stopped."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
