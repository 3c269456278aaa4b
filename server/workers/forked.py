"""A process forked from the forkserver, and our end of the socket by which each sees the other's end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from server.workers.forkserver import CONTEXT

MESSAGE_SIZE_BYTES_MAX = 1 << 20
"""Of one line on the socket."""

_starting = asyncio.Lock()


async def fork(name: str, target: Callable[..., None], *arguments: Any) -> Forked:
    """Forks a process that calls `target(*arguments, control)`; returns when it is there.

    Raises OSError, EOFError: the forkserver has ended. The next attempt starts another.
    """
    ours, theirs = socket.socketpair()
    process = CONTEXT.Process(target=target, args=(*arguments, theirs), name=name, daemon=True)
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
