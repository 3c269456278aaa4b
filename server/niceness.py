"""How threads of one process share a core: on Linux each has a niceness and a policy of its own."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from glob import glob
from pathlib import Path

_THREADS = "/proc/self/task"


def give_way(niceness: int) -> None:
    """Gives the calling thread this niceness, unless it has a higher one already; elsewhere than on Linux nothing."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


def wake_without_interrupting(thread_name: str) -> None:
    """Lets the threads of this process by that name wait for their turn when they wake, in place of taking the core
    from who computes (SCHED_BATCH). Elsewhere than on Linux, or where that is not allowed, nothing.

    For threads of a library, which can be told by nothing but their names.
    """
    if sys.platform == "linux":
        for thread in glob(f"{_THREADS}/*"):
            with suppress(OSError):  # it may have ended meanwhile
                if Path(thread, "comm").read_bytes().rstrip() == thread_name.encode():
                    os.sched_setscheduler(int(Path(thread).name), os.SCHED_BATCH, os.sched_param(0))
