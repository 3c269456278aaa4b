"""A supervisor with workers around the fake engine, as a process of its own: started, asked, watched, ended."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from prometheus_client.parser import text_string_to_metric_families
from twinrank.v1 import admin_pb2
from twinrank_client import Client, RecommendRequest

from tests.server.conftest import TOKEN
from tests.server.fake_engine import WHICH_PROCESS
from tests.server.stubs import admin_stub
from tests.server.waiting import until_in_thread

ASKING_S = 10.0
"""Deadline of a call in these tests; the machine may be busy."""
CONNECTIONS_MAX = 200
"""Fresh connections until every worker has had one; the kernel spreads them by chance."""


@dataclass
class PoolProcess:
    """What runs, what it logged, and when it said that it listens."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines about an event."""
        return [line for line in list(self.lines) if line["event"] == event]

    @property
    def listening(self) -> dict[str, Any]:
        return self.said("listening")[0]

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.listening['port']}"

    @property
    def forked_pids(self) -> list[int]:
        """Every worker so far, in the order of their starts."""
        return [line["pid"] for line in self.said("worker forked")]

    def answering_pids(self, count: int) -> set[int]:
        """The workers that answer fresh connections; asks until `count` have."""
        pids: set[int] = set()
        for _ in range(CONNECTIONS_MAX):
            pids.add(which(self.target))
            if len(pids) == count:
                break
        return pids

    def metrics(self) -> dict[tuple[str, str], float]:
        """The samples of a scrape by name and the values of their labels, in the order of the labels' names."""
        url = f"http://127.0.0.1:{self.listening['metrics_port']}/metrics"
        with urllib.request.urlopen(url, timeout=ASKING_S) as response:
            text = response.read().decode()
        return {
            (sample.name, ",".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def admin_status(self) -> admin_pb2.GetStatusResponse:
        with grpc.insecure_channel(f"127.0.0.1:{self.listening['admin_port']}") as channel:
            metadata = (("authorization", f"Bearer {TOKEN}"),)
            answer: admin_pb2.GetStatusResponse = admin_stub(channel).GetStatus(
                admin_pb2.GetStatusRequest(), metadata=metadata, timeout=ASKING_S
            )
            return answer


def which(target: str) -> int:
    """The process that answers one fresh connection."""
    with Client(target, timeout_s=ASKING_S) as client:
        return answering_pid(client)


def answering_pid(client: Client) -> int:
    """The process that answers this client's connection."""
    [item] = client.recommend(RecommendRequest(user_id=WHICH_PROCESS)).items
    return int(item.item_id.removeprefix("pid-"))


@contextmanager
def pool_process(
    directory: Path, root: Path, workers: int, drain_s: float = 0.0, store: str = "off"
) -> Iterator[PoolProcess]:
    """All workers listen when this enters; everything has ended when it is left.

    `workers`: 0 for one process without a supervisor. `store`: its mode. An embedded one outlives a killed supervisor,
    and has to be ended by the test that kills it.
    """
    config = directory / "pool.toml"
    config.write_text(
        f'[listen]\nport = 0\n[metrics]\nport = 0\n[admin]\nport = 0\ntoken = "{TOKEN}"\n'
        f'[generations]\nroot = "{root}"\npoll_interval_s = 0.1\n[lifecycle]\ndrain_s = {drain_s}\n'
        f'[store]\nmode = "{store}"\n'
    )
    command = [
        sys.executable,
        "-m",
        "tests.server.fake_server",
        "--config",
        str(config),
        *([str(workers)] if workers else []),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    running = PoolProcess(process)
    reader = threading.Thread(target=_read_log, args=(running,))
    reader.start()
    try:
        until_in_thread(lambda: running.said("listening") or not reader.is_alive())
        assert running.said("listening"), running.lines
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        until_in_thread(lambda: not any(map(alive, running.forked_pids)))
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def mapped_libraries(pid: int) -> str:
    """The files that a process has mapped, its shared libraries among them."""
    return Path(f"/proc/{pid}/maps").read_text()


def _read_log(running: PoolProcess) -> None:
    assert running.process.stderr is not None
    for line in running.process.stderr:
        try:
            running.lines.append(json.loads(line))
        except ValueError:
            running.lines.append({"event": "not JSON", "line": line})
