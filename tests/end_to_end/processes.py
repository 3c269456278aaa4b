"""The commands as their users start them: processes of their own, and a server that is waited for until it listens."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
START_PATIENCE_S = 60.0
STOP_PATIENCE_S = 20.0


async def command(*arguments: object, status: int = 0) -> str:
    """Runs `python -m …` to its end and gives its standard output; its exit status must be the expected one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    output, errors = await process.communicate()
    assert process.returncode == status, errors.decode()
    return output.decode() if status == 0 else errors.decode()


@dataclass
class ServerProcess:
    """A running server: its process, what it said on start, and every line it logged."""

    process: asyncio.subprocess.Process
    listening: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.listening['port']}"

    async def ended(self) -> int:
        """Waits for the process to end by itself; its exit status."""
        return await asyncio.wait_for(self.process.wait(), STOP_PATIENCE_S)

    def said(self, event: str) -> dict[str, Any] | None:
        """The first line about an event."""
        return next((line for line in self.lines if line["event"] == event), None)


@asynccontextmanager
async def server(config: Path) -> AsyncIterator[ServerProcess]:
    """`python -m server --config FILE`; it listens when this enters, and is gone when it is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "--config", str(config), stderr=asyncio.subprocess.PIPE, env=_environment()
    )
    running = ServerProcess(process)
    reader = asyncio.create_task(_read_log(running))
    try:
        async with asyncio.timeout(START_PATIENCE_S):
            while not running.listening:
                assert not reader.done(), f"the server did not start: {running.lines}"
                await asyncio.sleep(0.01)
        yield running
    finally:
        for _ in range(2):  # the second one skips the wait for balancers
            if process.returncode is None:
                process.terminate()  # a kill would leave its store living
        await reader
        await process.wait()


async def _read_log(running: ServerProcess) -> None:
    assert running.process.stderr is not None
    async for line in running.process.stderr:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"event": line.decode()}
        running.lines.append(entry)
        if entry["event"] == "listening":
            running.listening = entry


def _environment() -> dict[str, str]:
    return {**os.environ, **ONE_THREAD}


def server_config(directory: Path, root: Path, port: int = 0, drain_s: float = 0.1) -> Path:
    """A file for `server`: free ports on loopback, replay allowed, the port shared when one is given."""
    path = directory / "server.toml"
    path.write_text(
        f"""
[listen]
port = {port}
port_shared = {"true" if port else "false"}
[metrics]
port = 0
[admin]
port = 0
token = "a-token-for-tests-only"
[generations]
root = "{root}"
poll_interval_s = 0.05
[time]
replay_allowed = true
[lifecycle]
drain_s = {drain_s}
"""
    )
    return path


def scrape(port: int) -> str:
    """The metrics page, as Prometheus reads it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        return str(response.read(), "utf-8")
