"""The workers together: as many as wanted, replaced when they end, asked and told as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import structlog

from index.generation import GenerationError, current_id
from server.config import ServerConfig
from server.examination import Loading
from server.generations import FollowerStatus
from server.store.address import StoreAddress
from server.workers.examiner import Examiner
from server.workers.link import Worker, WorkerState
from server.workers.reports import Family, Report, lasting, merged
from server.workers.restarts import Restarts
from server.workers.worker import REPORT_INTERVAL_S, Assignment

REFRESH_PATIENCE_S = 0.5
"""How long a scrape or a GetStatus waits for a worker's fresh report."""
KILL_PATIENCE_S = 5.0
"""Beyond drain and grace: when a worker that should have left is killed."""

_LOGGER = structlog.stdlib.get_logger("twinrank.supervisor")


class Pool:
    """Keeps `count` workers up until `drain`. `config` and `store` are those that the workers get."""

    def __init__(self, config: ServerConfig, loading: Loading, count: int, store: StoreAddress | None = None) -> None:
        self._config = config
        self._store = store
        self._loading = loading
        self._examiner = Examiner(config, loading)
        self._restarts = Restarts(config.workers)
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._ended_families: list[Family] = []
        self._ended_answered_count = 0
        self._serving_id = ""
        self._ever_listened = False
        self.count = count
        self.workers: list[Worker] = []
        self.draining = False
        self.failure = ""

    def start(self) -> None:
        """Starts the workers, side by side, the watch over them, and the examination that they will ask for."""
        self._spawn(self._examine_current())
        for _ in range(self.count):
            self._replace(0.0)
        self._spawn(self._watch())

    async def until_listening(self) -> None:
        """Waits until all workers listen, or until one cannot start: then `failure` says why."""
        while not self.failure and len(self._in_state(WorkerState.LISTENING)) < self.count:
            await self._changed.wait()

    async def until_failure(self) -> None:
        """Waits until a worker cannot start for a reason that others would meet, too."""
        while not self.failure:
            await self._changed.wait()

    def drain(self) -> None:
        """All workers say NOT_SERVING, answer for `drain_s` more, and end; none is replaced."""
        self.draining = True
        for worker in self.workers:
            if worker.state is WorkerState.STARTING:
                worker.kill()
            worker.drain()

    def stop(self) -> None:
        """The same, without the wait."""
        self.drain()
        for worker in self.workers:
            worker.stop()

    async def until_ended(self) -> None:
        """Waits for the end of all workers, at last by force."""
        for task in list(self._tasks):
            task.cancel()
        await self._examiner.stop()
        lifecycle = self._config.lifecycle
        try:
            async with asyncio.timeout(lifecycle.drain_s + lifecycle.stop_grace_s + KILL_PATIENCE_S):
                while self.workers:
                    await self._changed.wait()
        except TimeoutError:
            for worker in self.workers:
                _LOGGER.error("worker does not end; killed", worker=worker.number)
                worker.kill()
            await asyncio.gather(*(worker.ended() for worker in self.workers))

    async def roll(self) -> None:
        """Replaces the workers one after the other: a new one listens before an old one drains."""
        for old in self._in_state(WorkerState.LISTENING):
            if self.draining:
                return
            try:
                new = await self._start_one()
            except (OSError, EOFError) as error:
                _LOGGER.error("rolling restart given up: no worker can be started", reason=str(error))
                return
            while new.state is WorkerState.STARTING:
                await self._changed.wait()
            if old not in self.workers:  # in the meantime, and replaced already
                new.drain()
                continue
            if new.state is not WorkerState.LISTENING:
                _LOGGER.error("rolling restart given up: the new worker does not listen", worker=new.number)
                return
            old.drain()
            while old in self.workers:
                await self._changed.wait()
        _LOGGER.info("rolling restart done")

    async def refresh(self) -> None:
        """Has all workers report now."""
        await asyncio.gather(*(worker.refresh(REFRESH_PATIENCE_S) for worker in self.workers))

    def look_now(self) -> None:
        """The pointer to the current generation has changed."""
        for worker in self.workers:
            worker.look()

    @property
    def status(self) -> FollowerStatus:
        """What all workers serve; while they change over, what they all served before."""
        reports = self._reports()
        serving = {report.serving_id for report in reports}
        if len(serving) == 1:
            [self._serving_id] = serving
        refused = max(reports, key=lambda report: bool(report.refused_id), default=Report())
        return FollowerStatus(
            serving_id=self._serving_id,
            loaded_at_s=max((report.loaded_at_s for report in reports), default=0.0),
            refused_id=refused.refused_id,
            refused_reason=refused.refused_reason,
            refused_count=sum(report.refused_count for report in reports),
        )

    @property
    def answered_count(self) -> int:
        """Requests answered by all workers, those that ended included."""
        return self._ended_answered_count + sum(worker.report.answered_count for worker in self.workers)

    @property
    def in_flight_count(self) -> int:
        """Unary calls in flight."""
        return sum(worker.report.in_flight_count for worker in self.workers)

    @property
    def ready_count(self) -> int:
        """Workers that listen and have a generation to answer with."""
        return sum(worker.ready for worker in self.workers)

    @property
    def crash_count(self) -> int:
        """Workers that ended unasked."""
        return self._restarts.crash_count

    @property
    def start_count(self) -> int:
        """Workers started so far."""
        return self._number

    def state_counts(self) -> dict[WorkerState, int]:
        """How many workers are in each state."""
        states = (WorkerState.STARTING, WorkerState.LISTENING, WorkerState.DRAINING)
        return {state: len(self._in_state(state)) for state in states}

    def families(self) -> list[Family]:
        """The workers' metrics as one."""
        return merged([self._ended_families, *(worker.report.families for worker in self.workers)])

    def _reports(self) -> list[Report]:
        return [worker.report for worker in self._in_state(WorkerState.LISTENING)]

    def _in_state(self, state: WorkerState) -> list[Worker]:
        return [worker for worker in self.workers if worker.state is state]

    async def _start_one(self) -> Worker:
        self._number += 1
        worker = Worker(
            Assignment(self._number, self._config, self._loading.loader, self.status.serving_id, self._store),
            self._state_changed,
            self._examiner.ask,
        )
        self.workers.append(worker)
        try:
            await worker.start()
        except BaseException:
            self.workers.remove(worker)
            raise
        return worker

    def _replace(self, delay_s: float) -> None:
        async def start_later() -> None:
            await asyncio.sleep(delay_s)
            try:
                await self._start_one()
            except (OSError, EOFError):
                # The forkserver has ended: the next attempt starts another.
                _LOGGER.warning("worker could not be forked", exc_info=True)
                self._replace(self._config.workers.restart_delay_s)

        self._spawn(start_later())

    def _state_changed(self, worker: Worker) -> None:
        if worker.state is WorkerState.LISTENING:
            self._ever_listened = True
        elif worker.state is WorkerState.DRAINING and not worker.leaving:
            # Somebody else told it to end: another is needed now, and this one answers until that listens.
            worker.leaving = True
            if not self.draining:
                _LOGGER.warning("worker leaves by itself", worker=worker.number)
                self._replace(0.0)
        elif worker.state is WorkerState.GONE:
            self._worker_gone(worker)
        self._changed.set()
        self._changed = asyncio.Event()

    def _worker_gone(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self._ended_families = lasting(merged([self._ended_families, worker.report.families]))
        self._ended_answered_count += worker.report.answered_count
        if worker.leaving or self.draining:
            _LOGGER.info("worker ended", worker=worker.number, exit_status=worker.exit_status)
            return
        if worker.cannot_start and not self._ever_listened:
            self.failure = worker.cannot_start
            return
        lived_s = time.monotonic() - worker.started_s
        delay_s = self._restarts.delay_s(lived_s, others_answer=bool(self._in_state(WorkerState.LISTENING)))
        _LOGGER.error(
            "worker crashed",
            worker=worker.number,
            exit_status=worker.exit_status,
            lived_s=round(lived_s, 3),
            replaced_in_s=delay_s,
            crash_count=self.crash_count,
        )
        staying = sum(not other.leaving for other in self.workers)
        if staying >= self.count:  # the newcomer of a rolling restart: the one that it was to replace still works
            return
        self._replace(delay_s)

    async def _examine_current(self) -> None:
        """Ahead of the workers' questions, so that checksums are compared while the forkserver imports."""
        with suppress(GenerationError, OSError):  # the workers will find the same, and say it
            if generation_id := await asyncio.to_thread(current_id, self._config.generations.root):
                await self._examiner.ask(generation_id)

    async def _watch(self) -> None:
        """Kills what hangs. Counts reports left out, not time: a machine that slept has slept for everybody."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            for worker in self.workers:
                worker.silent_reports += worker.pid is not None
                if worker.silent_reports > self._config.workers.silent_reports_max:
                    _LOGGER.error("worker hangs; killed", worker=worker.number, silent_reports=worker.silent_reports)
                    worker.kill()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
