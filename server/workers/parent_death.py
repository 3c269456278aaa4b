"""The kernel's help in ending with one's parent (Linux); elsewhere the end of the control socket has to do."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>; see prctl(2)."""


def signal_when_parent_ends(number: signal.Signals) -> bool:
    """Asks the kernel to send this process a signal when its parent ends; whether the kernel agreed.

    The parent is the thread that forked this process, so it should be one that lives as long as its process.
    """
    if not sys.platform.startswith("linux"):
        return False
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return bool(prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0) == 0)
