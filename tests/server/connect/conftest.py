"""The connectors as their users start them, and the parts that they talk to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.connect.__main__ import app
from tests.server.connect.event_server import EventServer

PATIENCE_S = 30.0


@pytest.fixture
def events() -> Iterator[EventServer]:
    """A server that keeps what it gets."""
    with EventServer() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command in this process to its end, in tmp_path; gives exit status and output."""
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run_one(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        return result.exit_code, result.output

    yield run_one
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def process(directory: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m server.connect …` as a process of its own; killed when the context is left."""
    root = Path(__file__).parents[3]
    paths = [str(root), str(root / "client"), str(root / "protos")]
    with (directory / "connector.log").open("ab") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "server.connect", *map(str, arguments)],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=log,
            stderr=log,
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()


def write_jsonl(path: Path, rows: Sequence[object]) -> Path:
    """A file with one object a line; text is written as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def quarantined(path: Path) -> list[dict[str, Any]]:
    """The lines of a quarantine."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rows(count: int) -> list[dict[str, Any]]:
    """Rows of views of 20 shoppers, one a second from 2026-11-01 on."""
    return [
        {"event_type": "view", "user_id": f"u{i % 20}", "item_id": f"i{i}", "time": 1_793_491_200 + i}
        for i in range(count)
    ]


__all__ = ["EventServer", "process", "quarantined", "rows", "write_jsonl"]
