"""One worker: the whole server in a process forked from the forkserver, on a port that it shares with the others.

A socket ties it to its supervisor, a line of JSON a message. The worker tells that it is there, that it listens, that
it drains, and a report a second, and asks what is known of a generation before it opens that; the supervisor answers,
asks for reports, and says when to look at CURRENT, to drain and to stop. The end of the socket is the end of the
supervisor: then the worker stops too, without waiting for balancers.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from index.generation import GenerationError
from server.config import ConfigError, ServerConfig
from server.examination import Ask, Finding
from server.generations import Loader
from server.logs import configure_logs
from server.store.address import StoreAddress
from server.store.keeper import stand_in
from server.store.syncing import Syncing
from server.workers.forked import MESSAGE_SIZE_BYTES_MAX
from server.workers.parent_death import signal_when_parent_ends
from server.workers.reports import Report, families_of

if TYPE_CHECKING:
    from server.lifecycle import Server

REPORT_INTERVAL_S = 1.0
"""How often a worker reports unasked; a crash loses what was counted since."""
STATUS_CANNOT_START = 2
"""Exit status of a worker whose configuration is wrong or whose address is taken: another would fare no better."""
UNASKED_DRAIN_S_MIN = 15.0
"""A worker that leaves unasked, such as one whose forkserver has ended, answers until those after it surely can."""
LAST_RESORT_S = 5.0
"""Beyond the grace for calls in flight: when a worker without a supervisor ends, whatever it is doing."""

LoaderOf = Callable[[ServerConfig, Ask], Loader]
_LOGGER = structlog.stdlib.get_logger("twinrank.worker")


@dataclass(frozen=True)
class Assignment:
    """What a worker is to do. `fallback_id`: the generation that the others serve; empty: none yet.
    `store`: where it is or will be soon; None: there is none.

    The configuration names the shared port, and neither an admin nor a metrics listener.
    """

    number: int
    config: ServerConfig
    loader_of: LoaderOf
    fallback_id: str
    store: StoreAddress | None = None


def work(assignment: Assignment, control: socket.socket) -> None:
    """The process's whole life; the target of the forked process."""
    # Before anything else: what the forkserver had imported, since this process began as its copy.
    before = {"preloaded": "torch" in sys.modules, "grpc_before_fork": "grpc" in sys.modules}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of the terminal's processes; the supervisor acts
    signal_when_parent_ends(signal.SIGTERM)
    grace_s = assignment.config.lifecycle.stop_grace_s + LAST_RESORT_S
    threading.Thread(target=_end_with_supervisor, args=(control.fileno(), grace_s), daemon=True).start()
    configure_logs(assignment.config.logs)
    structlog.contextvars.bind_contextvars(worker=assignment.number)
    from server.lifecycle import loop_factory  # imports grpc

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        status = runner.run(_run(assignment, control, before))
    sys.exit(status)


async def _run(assignment: Assignment, control: socket.socket, before: dict[str, bool]) -> int:
    return await _Work(assignment).run(control, before)


class _Work:
    """The worker's side of the socket, around its server."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._server: Server | None = None
        self._drain = asyncio.Event()
        self._stop = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._loop = asyncio.get_running_loop()
        self._findings: dict[str, asyncio.Future[Finding]] = {}
        self._alone = False
        self._ordered = False
        self._syncing: Syncing | None = None

    async def run(self, control: socket.socket, before: dict[str, bool]) -> int:
        """Serves until told to stop; the exit status."""
        reader, self._writer = await asyncio.open_connection(sock=control, limit=MESSAGE_SIZE_BYTES_MAX)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._drain.set)
        self._tell("here", pid=os.getpid(), **before)
        tasks = [asyncio.create_task(self._obey(reader)), asyncio.create_task(self._report_again_and_again())]
        try:
            return await self._serve()
        finally:
            for task in tasks:
                task.cancel()

    async def _serve(self) -> int:
        from server.lifecycle import Server

        assignment = self._assignment
        try:
            load = assignment.loader_of(assignment.config, self._ask)
            self._server = server = Server(
                assignment.config, load, fallback_id=assignment.fallback_id, store=assignment.store
            )
            await server.start()
        except (ConfigError, GenerationError, RuntimeError, OSError) as error:
            self._tell("cannot start", reason=str(error))
            return STATUS_CANNOT_START
        try:
            self._report()
            self._tell("listening")
            await self._drain.wait()
            server.begin_drain()
            self._tell("draining")
            drain_s = assignment.config.lifecycle.drain_s
            try:
                async with asyncio.timeout(drain_s if self._ordered else max(drain_s, UNASKED_DRAIN_S_MIN)):
                    await self._stop.wait()
            except TimeoutError:
                pass
        finally:
            await server.stop()
            if self._syncing is not None:
                await asyncio.to_thread(self._syncing.stop)
            self._report()
        return 0

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):  # the supervisor ended before it had read all that it was told
            await self._obey_until_the_end(reader)
        _LOGGER.warning("the supervisor has gone")
        self._alone = True
        with suppress(OSError):
            self._syncing = stand_in(self._assignment.config)
        for asked in self._findings.values():
            asked.set_result(Finding())
        self._drain.set()
        self._stop.set()

    async def _obey_until_the_end(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            order = json.loads(line)
            if order["do"] == "report":
                self._report(order["asked"])
            elif order["do"] == "know":
                self._findings.pop(order["generation_id"]).set_result(Finding.model_validate(order["finding"]))
            elif order["do"] == "look" and self._server is not None:
                self._server.follower.look_now()
            elif order["do"] == "drain":
                self._ordered = True
                self._drain.set()
            elif order["do"] == "stop":
                self._drain.set()
                self._stop.set()

    def _ask(self, generation_id: str) -> Finding:
        """What the supervisor knows of a generation; called on the loader's thread, which waits."""
        return asyncio.run_coroutine_threadsafe(self._finding(generation_id), self._loop).result()

    async def _finding(self, generation_id: str) -> Finding:
        if self._alone:
            return Finding()
        if generation_id not in self._findings:
            self._findings[generation_id] = self._loop.create_future()
            self._tell("asks", generation_id=generation_id)
        return await self._findings[generation_id]

    async def _report_again_and_again(self) -> None:
        while True:
            self._report()
            await asyncio.sleep(REPORT_INTERVAL_S)

    def _report(self, asked: int = 0) -> None:
        server = self._server
        report = Report()
        if server is not None:
            status, gauges = server.follower.status, server.metrics.gauges
            report = Report(
                serving_id=status.serving_id,
                loaded_at_s=status.loaded_at_s,
                refused_id=status.refused_id,
                refused_reason=status.refused_reason,
                refused_count=status.refused_count,
                answered_count=server.metrics.answered_count,
                in_flight_count=gauges.in_flight_count() if gauges is not None else 0,
                families=families_of(server.metrics.registry),
            )
        self._tell("report", asked=asked, report=report.model_dump())

    def _tell(self, what: str, **more: Any) -> None:
        assert self._writer is not None
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"is": what, **more}).encode() + b"\n")


def _end_with_supervisor(control_descriptor: int, grace_s: float) -> None:
    """Ends the process some time after the supervisor's end of the socket, even when the event loop hangs."""
    poll = select.poll()
    poll.register(control_descriptor, 0)  # nothing but the end
    poll.poll()
    threading.Event().wait(grace_s)
    os._exit(1)
