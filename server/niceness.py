"""How threads of one process share a core: on Linux each has a niceness of its own."""

from __future__ import annotations

import os
import sys
import threading


def give_way(niceness: int) -> None:
    """Gives the calling thread this niceness, unless it has a higher one already; elsewhere than on Linux nothing."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))
