"""A real server as a child process on free loopback ports, for commands that ask one: started, awaited, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "twinrank.v1.RecommendationService"
READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0


@contextmanager
def server_process(config: Path, log: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Gives host:port of `python -m server --config CONFIG` once it serves.

    Args:
        config: the server's TOML file; its ports are not used.
        log: where its output goes.
        settings: environment variables that override the file.

    Raises:
        SystemExit: it does not start, or its exit status after SIGTERM is not 0.
    """
    target = f"127.0.0.1:{_free_port()}"
    environment = os.environ | {
        "TWINRANK_LISTEN__PORT": target.rsplit(":", 1)[1],
        "TWINRANK_METRICS__PORT": "0",
        "TWINRANK_ADMIN__PORT": "0",
        "TWINRANK_LIFECYCLE__DRAIN_S": "0",
        **(settings or {}),
    }
    with log.open("w", encoding="utf-8") as out:
        command = [sys.executable, "-m", "server", "--config", str(config)]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)  # noqa: S603
        try:
            _await_serving(target, process, log)
            yield target
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(STOPPED_WITHIN_S)
        if status != 0:
            raise SystemExit(f"the server stopped with status {status}; see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_serving(target: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the standard health service says SERVING."""
    deadline = time.monotonic() + READY_WITHIN_S
    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise SystemExit(f"the server ended with status {process.returncode}; see {log}")
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=1, wait_for_ready=True)
            except grpc.RpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.1)
    raise SystemExit(f"the server did not become ready within {READY_WITHIN_S} s; see {log}")
