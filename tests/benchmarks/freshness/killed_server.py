"""`python -m server --workers 2` over a store of its own: any of its processes is killed by its id, and a supervisor
that has ended is started again at once.

All processes carry a mark in their environment, so that none that is left behind can hide.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from index.generation.pointer import current_id
from server.store.layout import StoreDirectory
from tests.benchmarks.processes import ONE_THREAD, free_port

MARK = "FRESHNESS_BENCH_RUN"
WORKERS = 2
START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 30.0
POLL_S = 0.02


class Kind(StrEnum):
    """Processes of a server."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"
    STORE = "store"
    FORKSERVER = "forkserver"


def copy_current_generation(root: Path, target: Path) -> Path:
    """A generations root of one's own with the current generation of another."""
    generation_id = current_id(root)
    if generation_id is None:
        raise FileNotFoundError(f"no generation at {root}; run make demo first")
    target.mkdir(parents=True)
    shutil.copytree(root / generation_id, target / generation_id)
    for name in ("CURRENT", "HISTORY"):
        shutil.copy(root / name, target / name)
    return target


class KilledServer:
    """A server between `start` and `stop`."""

    def __init__(self, directory: Path, root: Path, environment: Mapping[str, str], workers: int = WORKERS) -> None:
        """`directory`: for its logs and its store. `environment`: more of its configuration."""
        directory.mkdir(parents=True)
        self._logs = directory / "logs"
        self._logs.mkdir()
        self.store = StoreDirectory(directory / "store")
        self.port = free_port()
        self._workers = workers
        self._mark = uuid.uuid4().hex
        self._environment = {
            **os.environ,
            **ONE_THREAD,
            MARK: self._mark,
            "TWINRANK_LISTEN__PORT": str(self.port),
            "TWINRANK_METRICS__ENABLED": "false",
            "TWINRANK_ADMIN__ENABLED": "false",
            "TWINRANK_GENERATIONS__ROOT": str(root),
            "TWINRANK_STORE__DIRECTORY": str(directory / "store"),
            "TWINRANK_LIFECYCLE__DRAIN_S": "0",
            **environment,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stopping = False
        self._log: Path | None = None
        self.start_count = 0
        self.failed_starts: list[str] = []

    @property
    def target(self) -> str:
        """Where it answers."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when all workers listen."""
        await self._start()
        self._watching = asyncio.create_task(self._watch())
        await self.until_listening()

    async def until_listening(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(START_PATIENCE_S):
            while not self.is_listening:
                await asyncio.sleep(POLL_S)

    @property
    def is_listening(self) -> bool:
        """Whether the newest supervisor has said that all of its workers listen."""
        return any(line["event"] == "listening" for line in self.said())

    def said(self) -> list[dict[str, Any]]:
        """What the newest supervisor and its workers have logged."""
        assert self._log is not None
        found = []
        for line in self._log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": line})
        return [line for line in found if isinstance(line, dict) and "event" in line]

    def living(self, kind: Kind) -> list[int]:
        """Process ids."""
        assert self._process is not None
        if kind is Kind.STORE:
            pid = self._store_pid()
            return [pid] if pid else []
        if self._process.returncode is not None:
            return []
        if kind is Kind.SUPERVISOR:
            return [self._process.pid]
        try:
            children = psutil.Process(self._process.pid).children()
            forkservers = [child for child in children if any("forkserver" in word for word in child.cmdline())]
            if kind is Kind.FORKSERVER:
                return [forkserver.pid for forkserver in forkservers]
            workers = {line["pid"] for line in self.said() if line["event"] == "worker forked"}
            return [child.pid for one in forkservers for child in one.children() if child.pid in workers]
        except psutil.Error:  # one of them has just ended
            return []

    def kill(self, kind: Kind, place: int = 0) -> bool:
        """kill -9 of one process of this kind; whether there was one."""
        living = self.living(kind)
        if not living:
            return False
        return end_process(living[place % len(living)])

    def marked(self) -> list[psutil.Process]:
        """All living processes of this server, whoever is their parent now.

        The store writes its title over its environment, and is known by its pid file.
        """
        found, store_pid = [], self._store_pid()
        for process in psutil.process_iter():
            try:
                ours = process.pid == store_pid or process.environ().get(MARK) == self._mark
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill_all(self, first: int = 0) -> float:
        """As a power failure: everything ends at once; when that began, by time.monotonic().

        `first`: another process that ends with it.
        """
        self._stopping = True
        pids = [*([first] if first else []), *(process.pid for process in self.marked())]
        at_s = time.monotonic()
        for pid in pids:
            end_process(pid)
        return at_s

    async def stop(self) -> list[str]:
        """SIGTERM, or nothing when it has been killed; then what was left behind, which is ended."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._process is not None:
            if self._process.returncode is None:
                self._process.terminate()
            try:
                async with asyncio.timeout(STOP_PATIENCE_S):
                    await self._process.wait()
                    while self.marked():
                        if self._process.returncode == -signal.SIGKILL:
                            break
                        await asyncio.sleep(POLL_S)
            except TimeoutError:
                pass
        left = []
        for process in self.marked():
            left.append(_described(process))
            end_process(process.pid)
        return left

    def _store_pid(self) -> int:
        try:
            pid = int(self.store.pid_file.read_text())
            same = os.path.samestat(os.stat(f"/proc/{pid}/cwd"), self.store.path.stat())
        except (OSError, ValueError):
            return 0
        return pid if same else 0

    async def _start(self) -> None:
        self._log = self._logs / f"server-{self.start_count}.log"
        self.start_count += 1
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server", "--workers", str(self._workers), stderr=log, env=self._environment
            )

    async def _watch(self) -> None:
        assert self._process is not None
        while not self._stopping:
            status = await self._process.wait()
            if self._stopping:
                return
            if status != -signal.SIGKILL:
                said = self.said()
                self.failed_starts.append(f"{status}: {said[-1]['event'] if said else ''}")
                await asyncio.sleep(POLL_S)
            await self._start()


def end_process(pid: int) -> bool:
    """kill -9; False when it had ended already."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return str(process.pid)
