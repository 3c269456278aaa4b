"""The process that imports everything once and is then forked: into the workers, and the examiner of a generation.

Its imports take longest of all that has to be done before the first answer, so it is started before anything else: this
module imports little.
"""

from __future__ import annotations

import multiprocessing
import os

CONTEXT = multiprocessing.get_context("forkserver")
PRELOAD = "server.workers.preload"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
"""Environment of the forked, where it does not say otherwise already: one core a worker (server.threads)."""


def start_forkserver() -> None:
    """Starts it, unless it runs; does not wait for its imports. On the main thread: the kernel ends it with that."""
    from multiprocessing import forkserver

    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    CONTEXT.set_forkserver_preload([PRELOAD])
    forkserver.ensure_running()
