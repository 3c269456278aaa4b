"""Several workers on all cores: memory that each further one adds, and how soon four of them give good answers.

`python -m tests.benchmarks.workers [WORKLOAD] [REPEATS]` prints both, and what the memory of each process consists of.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import sys
import time
import urllib.request
from dataclasses import dataclass, replace

import psutil

from tests.benchmarks.load import Counted, GrpcUnary, closed_loop, messages
from tests.benchmarks.paths import READY_TIMEOUT_S, Shop, until_ready
from tests.benchmarks.processes import Command, PathMissing, ServerProcess, log_path, twinrank

FOUR = 4
LOAD_S = 2.0
"""Every worker has touched its pages by then."""
TRANSPORTS = 4
"""Of several connections each: the kernel deals connections out by a hash, and every worker should get some."""
POLL_S = 0.01
KINDS = ("Pss", "Pss_Anon", "Pss_File", "Private_Dirty")


@dataclass(frozen=True)
class Started:
    """One start. `ready_s`: until all workers had a generation and one more request on each connection was answered.

    `memory_mb`: for each process of the tree, its share by KINDS of /proc/PID/smaps_rollup.
    """

    ready_s: float
    memory_mb: list[dict[str, float]]

    @property
    def pss_mb(self) -> float:
        """Of the whole tree: what is shared counts once."""
        return sum(process["Pss"] for process in self.memory_mb)


def measure_workers(shop: Shop, front: str = "grpcio", repeats: int = 1) -> dict[str, float]:
    """`pss_mb_one`, `pss_mb_per_further_worker` and `ready_s_four`; medians.

    One process is without a supervisor, so a third of supervisor, forkserver and resource tracker is in the further
    worker's memory, too. Raises PathMissing when the server has no --workers.
    """
    ones = [_start(shop, front, 1) for _ in range(repeats)]
    fours = [_start(shop, front, FOUR) for _ in range(repeats)]
    one_mb, four_mb = (statistics.median(started.pss_mb for started in several) for several in (ones, fours))
    return {
        "pss_mb_one": one_mb,
        "pss_mb_per_further_worker": (four_mb - one_mb) / (FOUR - 1),
        "ready_s_one": statistics.median(started.ready_s for started in ones),
        "ready_s_four": statistics.median(started.ready_s for started in fours),
    }


def _start(shop: Shop, front: str, count: int) -> Started:
    return asyncio.run(_started(_on_all_cores(twinrank(shop.root, front, count)), shop, count))


def _on_all_cores(command: Command) -> Command:
    """The benchmark itself keeps to one core, and its children would inherit that."""
    cores = f"0-{(os.cpu_count() or 1) - 1}"
    return replace(command, arguments=["taskset", "-c", cores, *command.arguments])


async def _started(command: Command, shop: Shop, count: int) -> Started:
    payloads = [request.SerializeToString() for request in messages(shop.user_ids(), shop.as_of_s)]
    counted, transports = Counted(), [GrpcUnary(payloads) for _ in range(TRANSPORTS)]
    began = time.monotonic()
    with ServerProcess(command, log_path(shop.workload, "workers"), pinned=False) as server:
        await _until_listening(server, began)
        if count > 1:
            await _until_workers_ready(server, count, began)
        for transport in transports:
            await until_ready(server, transport, counted)
        ready_s = time.monotonic() - began
        await asyncio.gather(*(closed_loop(transport, LOAD_S, counted) for transport in transports))
        memory = [_memory_mb(process) for process in server._tree()]
        for transport in transports:
            await transport.close()
    if counted.failed:
        raise RuntimeError(f"{counted.failed} of {counted.calls} calls failed")
    return Started(ready_s, memory)


async def _until_listening(server: ServerProcess, began: float) -> None:
    """Until somebody takes connections. gRPC's own attempts grow apart to seconds, so they cannot tell when."""
    host, _, port = server.command.target.rpartition(":")
    while True:
        server.check()
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await _wait(server, began)
        else:
            writer.close()
            return


async def _until_workers_ready(server: ServerProcess, count: int, began: float) -> None:
    url = f"http://127.0.0.1:{server.command.environment['TWINRANK_METRICS__PORT']}/metrics"

    def ready_count() -> float:
        with urllib.request.urlopen(url, timeout=5) as page:
            found = re.search(r"^twinrank_workers_ready (\S+)", page.read().decode(), re.MULTILINE)
        return float(found[1]) if found is not None else 0.0

    while await asyncio.to_thread(ready_count) < count:
        await _wait(server, began)


async def _wait(server: ServerProcess, began: float) -> None:
    if time.monotonic() - began > READY_TIMEOUT_S:
        raise PathMissing(f"{server.command.name} is not ready after {READY_TIMEOUT_S:g} s")
    await asyncio.sleep(POLL_S)


def _memory_mb(process: psutil.Process) -> dict[str, float]:
    with open(f"/proc/{process.pid}/smaps_rollup") as file:
        lines = dict(line.split(":") for line in file if ":" in line and line.endswith("kB\n"))
    return {kind: int(lines[kind].split()[0]) * 1024 / 1e6 for kind in KINDS}


if __name__ == "__main__":
    from rich.console import Console

    from tests.benchmarks.serving import prepare

    workload, repeats = (sys.argv[1:] + ["W1M", "1"][len(sys.argv) - 1 :])[:2]
    asked = prepare(workload, Console(stderr=True))
    print(json.dumps(measure_workers(asked, repeats=int(repeats)), indent=1))
    for count in (1, FOUR):
        for place, memory in enumerate(_start(asked, "grpcio", count).memory_mb):
            print(count, place, {kind: round(value, 1) for kind, value in memory.items()})
