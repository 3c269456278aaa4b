"""The supervisor's end of one worker: its process, what it told last, and what it is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any

import structlog

from server.examination import Finding
from server.workers.forked import Forked, fork
from server.workers.reports import Report
from server.workers.worker import Assignment, work

EXIT_PATIENCE_S = 2.0
"""Between the end of a worker's socket and the end of its process: the interpreter's own end."""

_LOGGER = structlog.stdlib.get_logger("twinrank.supervisor")


class WorkerState(StrEnum):
    """STARTING → LISTENING → DRAINING → GONE; GONE may come at any time."""

    STARTING = "starting"
    LISTENING = "listening"
    DRAINING = "draining"
    GONE = "gone"


class Worker:
    """One worker process, from before its start until after its end.

    `changed` is called when its state changes, `examined` when it asks what is known of a generation.
    """

    def __init__(
        self,
        assignment: Assignment,
        changed: Callable[[Worker], None],
        examined: Callable[[str], Awaitable[Finding]],
    ) -> None:
        self.number = assignment.number
        self._assignment = assignment
        self._changed = changed
        self._examined = examined
        self._answering: set[asyncio.Task[None]] = set()
        self._process: Forked | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked = 0
        self._answers: dict[int, asyncio.Event] = {}
        self.state = WorkerState.STARTING
        self.report = Report()
        self.silent_reports = 0
        self.leaving = False
        self.cannot_start = ""
        self.exit_status: int | None = None
        self.started_s = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether it listens and has a generation to answer with."""
        return self.state is WorkerState.LISTENING and bool(self.report.serving_id)

    @property
    def pid(self) -> int | None:
        """Its process, once that is forked."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Forks it; returns when the process is there, not when it listens."""
        self._process = await fork(f"worker-{self.number}", work, self._assignment)
        self._reading = asyncio.create_task(self._read(self._process))

    def drain(self) -> None:
        """Lets it leave: it answers for `drain_s` more, finishes what is in flight, and ends."""
        self.leaving = True
        self._tell("drain")

    def stop(self) -> None:
        """The same, without the wait."""
        self.leaving = True
        self._tell("stop")

    def look(self) -> None:
        """The pointer to the current generation has changed."""
        self._tell("look")

    def kill(self) -> None:
        """Ends it at once, with all that is in flight."""
        if self._process is not None and self.state is not WorkerState.GONE:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def refresh(self, timeout_s: float) -> None:
        """Has it report now; when it does not within the time, what it told before stands."""
        if self._process is None or self.state is WorkerState.GONE:
            return
        self._asked += 1
        answered = self._answers[self._asked] = asyncio.Event()
        try:
            self._tell("report", asked=self._asked)
            async with asyncio.timeout(timeout_s):
                await answered.wait()
        except TimeoutError:
            pass
        finally:
            self._answers = {asked: event for asked, event in self._answers.items() if event is not answered}

    async def ended(self) -> None:
        """Waits until it has gone."""
        if self._reading is not None:
            await asyncio.shield(self._reading)

    async def _read(self, process: Forked) -> None:
        """Takes in what the worker tells until its end of the socket is closed: until it has ended."""
        try:
            while line := await process.reader.readline():
                self._take(json.loads(line))
        except ConnectionError:
            pass  # it ended before it had read all that it was told
        except ValueError:
            _LOGGER.exception("what a worker tells cannot be read", worker=self.number)
            self.kill()
        process.writer.close()
        await process.join(EXIT_PATIENCE_S)
        self.exit_status = process.exit_status
        for answered in self._answers.values():
            answered.set()
        self._enter(WorkerState.GONE)

    def _take(self, message: dict[str, Any]) -> None:
        match message["is"]:
            case "report":
                self.report = Report.model_validate(message["report"])
                self.silent_reports = 0
                if (answered := self._answers.get(message["asked"])) is not None:
                    answered.set()
            case "here":
                if message["grpc_before_fork"] or not message["preloaded"]:
                    _LOGGER.error("the forkserver is not as it should be", worker=self.number, **_said(message))
                _LOGGER.info("worker forked", worker=self.number, **_said(message))
            case "listening":
                self._enter(WorkerState.LISTENING)
            case "draining":
                self._enter(WorkerState.DRAINING)
            case "asks":
                answering = asyncio.create_task(self._answer(message["generation_id"]))
                self._answering.add(answering)
                answering.add_done_callback(self._answering.discard)
            case "cannot start":
                self.cannot_start = message["reason"]

    async def _answer(self, generation_id: str) -> None:
        finding = await self._examined(generation_id)
        self._tell("know", generation_id=generation_id, finding=finding.model_dump())

    def _enter(self, state: WorkerState) -> None:
        self.state = state
        self._changed(self)

    def _tell(self, order: str, **more: Any) -> None:
        if self._process is not None and not self._process.writer.is_closing():
            self._process.writer.write(json.dumps({"do": order, **more}).encode() + b"\n")


def _said(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "is"}
