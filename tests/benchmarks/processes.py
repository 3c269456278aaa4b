"""Server processes of the benchmarks: started on one core, accounted with all their children, stopped for certain."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import psutil

from tests.benchmarks.other_servers import COUNT_METHOD
from tests.benchmarks.workloads import BENCH_DIR

SERVER_CORE, LOAD_CORE = 0, 1
ALL_CORES = f"0-{(os.cpu_count() or 1) - 1}"
STOP_TIMEOUT_S = 20.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class PathMissing(RuntimeError):
    """This checkout or machine has not what the path needs; the message says what."""


@dataclass(frozen=True)
class Command:
    """How to start a server.

    Attributes:
        ok_count: reads how many requests (streams: messages; batches: calls) the server says it answered OK.
        batch_size: reads the mean size of the engine's batches so far; None where there is no such number.
    """

    name: str
    arguments: Sequence[str]
    environment: dict[str, str]
    target: str
    ok_count: Callable[[], int]
    batch_size: Callable[[], float] | None = None


class ServerProcess:
    """A server on SERVER_CORE, or on all cores; a context manager that ends it."""

    def __init__(self, command: Command, log: Path, *, pinned: bool = True) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.command = command
        self._log = log.open("w")
        self._pinned = pinned

    def __enter__(self) -> Self:
        cores = str(SERVER_CORE) if self._pinned else ALL_CORES  # said in any case: a child inherits the load's core
        self._process = subprocess.Popen(
            ["taskset", "-c", cores, *self.command.arguments],
            env={**os.environ, **ONE_THREAD, **self.command.environment},
            stdout=self._log,
            stderr=self._log,
        )
        return self

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def check(self) -> None:
        """Raises PathMissing when the server has ended."""
        if self._process.poll() is not None:
            raise PathMissing(f"{self.command.name} ended with {self._process.returncode}; see {self._log.name}")

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of the process and all its children that live."""
        return sum(sum(process.cpu_times()[:2]) for process in self._tree())

    def pss_mb(self) -> float:
        """Proportional share of memory of the whole tree: what is shared counts once."""
        return sum(process.memory_full_info().pss for process in self._tree()) / 1e6

    def _tree(self) -> list[psutil.Process]:
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tree = self._tree() if self._process.poll() is None else []
        if tree:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for left in tree[1:]:
            if left.is_running():
                left.kill()
        self._log.close()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def twinrank(root: Path, front: str, workers: int = 1) -> Command:
    """Our server. Raises PathMissing when it has not the front or the workers asked for."""
    port, metrics_port = free_port(), free_port()
    known = subprocess.run(
        [sys.executable, "-m", "server", "--help"], capture_output=True, text=True, check=True
    ).stdout
    arguments = [sys.executable, "-m", "server"]
    if "--front" in known:
        arguments += ["--front", front]
    elif front != "grpcio":
        raise PathMissing(f"this server has no --front {front}")
    if "--workers" in known:
        arguments += ["--workers", str(workers)]
    elif workers != 1:
        raise PathMissing("this server has no --workers")
    environment = {
        "TWINRANK_LISTEN__PORT": str(port),
        "TWINRANK_METRICS__PORT": str(metrics_port),
        "TWINRANK_ADMIN__ENABLED": "false",
        "TWINRANK_GENERATIONS__ROOT": str(root),
        "TWINRANK_TIME__REPLAY_ALLOWED": "true",
        "TWINRANK_LIFECYCLE__DRAIN_S": "0",
    }

    def metric(pattern: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as page:
            text = page.read().decode()
        return sum(map(float, re.findall(rf"^{pattern} (\S+)", text, re.MULTILINE)))

    def ok_count() -> int:
        return int(metric(r'twinrank_requests_total\{[^}]*code="OK"[^}]*\}'))

    def batch_size() -> float:
        return metric("twinrank_batch_size_sum") / max(metric("twinrank_batch_size_count"), 1.0)

    return Command(f"server --front {front}", arguments, environment, f"127.0.0.1:{port}", ok_count, batch_size)


def other(kind: str, root: Path) -> Command:
    """`naive`, `echo` or `native_echo`. Raises PathMissing."""
    port = free_port()
    arguments = [sys.executable, "-m", "tests.benchmarks.other_servers", kind, "--root", str(root), "--port", str(port)]
    if kind == "native_echo":
        if importlib.util.find_spec("pygrpc_native") is None:
            raise PathMissing("pygrpc-native is not installed")
        arguments = [sys.executable, "-m", "tests.benchmarks.native_echo", "--port", str(port)]
    target = f"127.0.0.1:{port}"

    def ok_count() -> int:
        with grpc.insecure_channel(target) as channel:
            ask: Any = channel.unary_unary(COUNT_METHOD)
            return int(ask(b"", timeout=5))

    return Command(kind, arguments, {}, target, ok_count)


def log_path(workload: str, path: str) -> Path:
    """Where a server's output goes."""
    return BENCH_DIR / "logs" / f"{workload}-{path}.log"
