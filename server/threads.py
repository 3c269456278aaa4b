"""One core a worker: torch, BLAS and FAISS compute on the thread that calls them, and start no others.

More threads would only wait for each other: the work of a batch is short, and other workers use the other cores.
"""

from __future__ import annotations

import threading

import torch
from threadpoolctl import threadpool_limits

_thread = threading.local()


def compute_on_one_thread() -> None:
    """Sets the limit for the calling thread, once: OpenMP, and so FAISS, keeps it for each thread by itself."""
    if getattr(_thread, "limited", False):
        return
    torch.set_num_threads(1)
    threadpool_limits(1)
    _thread.limited = True
