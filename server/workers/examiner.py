"""The supervisor's examiner: every generation is examined once, for all workers and their replacements.

A thread compares the checksums, and a process that is forked for it loads the generation for trial and ends. Workers
ask before they open a generation. They need not hash nor compare what has been found to be right, keep none of the
memory that this takes, and do not open what ended the process with a fault: a file that breaks a parser breaks no
worker. Where the examination fails in any other way, they know no more than before, and find out and say what is wrong.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress

import structlog
from pydantic import BaseModel

from index.generation import Seal
from server.config import ServerConfig
from server.examination import Finding, Loading
from server.workers.forked import MESSAGE_SIZE_BYTES_MAX, Forked, fork
from server.workers.parent_death import signal_when_parent_ends

FINDINGS_KEPT = 4
"""The current generation, the one before it, and what came between."""
BACKGROUND_NICENESS = 10
"""While others serve; at the start nobody does, and everybody waits for the examiner."""
EXAMINATION_S_MAX = 300.0
STATUS_UNFIT = 1
EXIT_PATIENCE_S = 2.0
"""Between the end of the process's socket and its own end."""
FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
"""Ends of a process that its own code brought about. SIGKILL is none: it comes from outside, or for want of memory."""

_LOGGER = structlog.stdlib.get_logger("twinrank.supervisor")


class Examiner:
    """Finds out about generations, each once. `config` is the one that the workers get."""

    def __init__(self, config: ServerConfig, loading: Loading) -> None:
        self._config = config
        self._loading = loading
        self._examinations: dict[str, asyncio.Task[Finding]] = {}
        self._served = False

    async def ask(self, generation_id: str) -> Finding:
        """What is known of it; finds out first, unless that has begun. What did not fit is examined anew each time."""
        known = self._examinations.pop(generation_id, None)
        if known is None or (known.done() and not known.result().fits):
            known = asyncio.create_task(self._examine(generation_id))
        self._examinations[generation_id] = known  # at the end: the oldest go first
        for old in list(self._examinations)[:-FINDINGS_KEPT]:
            del self._examinations[old]
        return await asyncio.shield(known)

    async def stop(self) -> None:
        """Ends what is under way."""
        for examination in self._examinations.values():
            examination.cancel()
        await asyncio.gather(*self._examinations.values(), return_exceptions=True)

    async def _examine(self, generation_id: str) -> Finding:
        # Both at once: at the start the forkserver is still at its imports while the checksums are compared.
        forking = asyncio.create_task(fork("examiner", examine_when_told, self._loading, self._config))
        try:
            seal = await asyncio.to_thread(self._loading.verify, self._config, generation_id)
        except Exception as error:  # of whatever kind: somebody waits for an answer
            _LOGGER.info("generation not verified", generation_id=generation_id, reason=str(error))
            forking.add_done_callback(_let_go)
            return Finding()
        try:
            process = await forking
        except (OSError, EOFError):
            _LOGGER.warning("examiner could not be forked", exc_info=True)
            return Finding(seal=seal)
        status = await _tried(process, seal, background=self._served)
        self._served = True  # whoever asks from now on has a generation to serve meanwhile
        if status is not None and -status in FAULTS:
            refused = f"a process that loaded it for trial ended with {signal.Signals(-status).name}"
            return Finding(seal=seal, refused=refused)
        _LOGGER.info("generation examined", generation_id=generation_id, exit_status=status)
        return Finding(seal=seal, fits=status == 0)


class Order(BaseModel):
    """What the forked process is told: which generation, and whether others serve meanwhile."""

    seal: Seal
    background: bool


async def _tried(process: Forked, seal: Seal, *, background: bool) -> int | None:
    """The exit status of the process once it has loaded the generation; None when it did not end in time."""
    try:
        async with asyncio.timeout(EXAMINATION_S_MAX):
            process.writer.write(Order(seal=seal, background=background).model_dump_json().encode() + b"\n")
            with suppress(ConnectionError):
                await process.reader.read()  # until it has ended
    except BaseException as error:
        process.kill()
        if not isinstance(error, TimeoutError):
            raise
    finally:
        process.writer.close()
    await process.join(EXIT_PATIENCE_S)
    return process.exit_status


def examine_when_told(loading: Loading, config: ServerConfig, control: socket.socket) -> None:
    """The forked process's whole life: reads a seal, loads that generation, and ends; with 1 when it does not load."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of the terminal's processes; the supervisor acts
    signal_when_parent_ends(signal.SIGKILL)
    with control.makefile("r", encoding="utf-8") as lines:
        line = lines.readline(MESSAGE_SIZE_BYTES_MAX)
    if not line:  # nothing to examine: its checksums are wrong
        return
    order = Order.model_validate_json(line)
    if order.background:
        os.nice(BACKGROUND_NICENESS)
    try:
        loading.examine(config, order.seal.generation_id, order.seal)
    except Exception:
        sys.exit(STATUS_UNFIT)  # the workers will find the same, and say it


def _let_go(forking: asyncio.Task[Forked]) -> None:
    """The process will read the end of its socket, and end."""
    if not forking.cancelled() and forking.exception() is None:
        forking.result().writer.close()
