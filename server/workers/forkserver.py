"""Processes forked from one that has imported everything already: the workers, and the examiner of a generation.

Each has a socket to the process that asked for it, and that is how both see the other's end.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

PRELOAD = "server.workers.preload"
MESSAGE_SIZE_BYTES_MAX = 1 << 20
"""Of one line on a socket between these processes."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
"""Environment of the forked, where it does not say otherwise already: one core a worker (server.threads)."""

_context = multiprocessing.get_context("forkserver")
_starting = asyncio.Lock()


def start_forkserver() -> None:
    """Starts it, without waiting for its imports. On the main thread: with this thread the kernel ends it."""
    from multiprocessing import forkserver

    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    _context.set_forkserver_preload([PRELOAD])
    forkserver.ensure_running()


async def fork(name: str, target: Callable[..., None], *arguments: Any) -> Forked:
    """Forks a process that calls `target(*arguments, control)`; returns when it is there.

    Raises OSError, EOFError: the forkserver has ended. The next attempt starts another.
    """
    ours, theirs = socket.socketpair()
    process = _context.Process(target=target, args=(*arguments, theirs), name=name, daemon=True)
    try:
        async with _starting:  # multiprocessing keeps a list of its processes that is not for several threads
            await asyncio.to_thread(process.start)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours, limit=MESSAGE_SIZE_BYTES_MAX)
    return Forked(process, reader, writer)


class Forked:
    """A process and our end of its socket."""

    def __init__(self, process: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self.reader = reader
        self.writer = writer

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self._process.pid)

    @property
    def exit_status(self) -> int | None:
        """Once it has ended; the negative number of the signal that ended it."""
        status: int | None = self._process.exitcode
        return status

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    async def join(self, timeout_s: float) -> None:
        """Waits for its end, which its socket's end announces."""
        await asyncio.to_thread(self._process.join, timeout_s)
