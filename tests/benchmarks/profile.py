"""`python -m tests.benchmarks.profile`: where the CPU of a request goes, by stage, from samples of py-spy under load.

A sample says where a thread was, not that it worked there. So samples are weighed by each thread's CPU time as the
kernel counts it: what a thread's samples say of the stages is scaled to it, and what it has over them belongs to the
native code behind its waiting call. Threads that run no Python, the transport's, are their CPU time and nothing else.

py-spy reads Python frames alone. With --native it loses the samples that fall into compiled kernels, since it cannot
unwind them: stages would look cheaper for being compiled.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
import uvloop
from rich.console import Console

from tests.benchmarks.load import Counted, Transport, closed_loop
from tests.benchmarks.paths import WARM_UP_S, Shop, command_of, transport_of, until_ready
from tests.benchmarks.processes import LOAD_CORE, ONE_THREAD, SERVER_CORE, ServerProcess, log_path
from tests.benchmarks.profile_stages import TRANSPORT, UNKNOWN, stage_of
from tests.benchmarks.serving import prepare
from tests.benchmarks.workloads import BENCH_DIR, DEMO, SYNTHETIC

PROFILED = ("engine", "native_unary", "grpcio_unary")
RATE_HZ = 200
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
_THREAD = re.compile(r"^thread \((?P<id>\d+)\)")


@dataclass(frozen=True)
class Profile:
    """CPU seconds of each stage, and how many requests they answered."""

    cpu_s: dict[str, float]
    request_count: int

    @property
    def attributed(self) -> float:
        """The share of the CPU time whose stage is known."""
        return 1 - self.cpu_s.get(UNKNOWN, 0.0) / sum(self.cpu_s.values())


@dataclass(frozen=True)
class Samples:
    """Of one thread: how many fell into each stage, and how many into a call that waits."""

    working: Counter[str]
    waiting: Counter[str]


def profile(
    workload: Annotated[str, typer.Option(help=f"of {DEMO}, {', '.join(SYNTHETIC)}")] = "W1M",
    path: Annotated[list[str] | None, typer.Option(help=f"default {', '.join(PROFILED)}")] = None,
    seconds: Annotated[float, typer.Option(min=1.0)] = 15.0,
) -> None:
    """Samples each path, and prints one table."""
    os.sched_setaffinity(0, {LOAD_CORE % (os.cpu_count() or 1)})
    console = Console(soft_wrap=True, stderr=True)
    shop, _ = prepare(workload, workload, console)
    found = {}
    for one in path or PROFILED:
        found[one] = _in_process(shop, seconds) if one == "engine" else uvloop.run(_served(one, shop, seconds))
        console.print(f"{workload} {one}: {found[one]}")
    text = table(workload, found)
    (BENCH_DIR / f"profile-{workload}.md").write_text(text + "\n")
    print(text)


def table(workload: str, profiles: dict[str, Profile]) -> str:
    """Stages as rows, µs of CPU a request and their share as columns."""
    total_s = {path: sum(one.cpu_s.values()) for path, one in profiles.items()}
    stages = sorted(
        {stage for one in profiles.values() for stage in one.cpu_s},
        key=lambda stage: -max(one.cpu_s.get(stage, 0.0) / total_s[path] for path, one in profiles.items()),
    )
    lines = [
        f"| Stage ({workload}) | " + " | ".join(f"`{path}`, µs | %" for path in profiles) + " |",
        "|---|" + "---:|---:|" * len(profiles),
    ]
    for stage in [*stages, None]:
        cells = []
        for path, one in profiles.items():
            cpu_s = total_s[path] if stage is None else one.cpu_s.get(stage, 0.0)
            per_request = f"{cpu_s * 1e6 / one.request_count:,.1f}" if cpu_s else ""
            cells += [per_request, f"{cpu_s / total_s[path]:.1%}" if cpu_s else ""]
        lines.append(f"| {stage or 'all'} | {' | '.join(cells)} |")
    attributed = ", ".join(f"{one.attributed:.1%} of `{path}`" for path, one in profiles.items())
    return "\n".join([*lines, "", f"Attributed to a stage: {attributed}."])


async def _served(path: str, shop: Shop, seconds: float) -> Profile:
    counted, transport = Counted(), transport_of(path, shop)
    with ServerProcess(command_of(path, shop), log_path(shop.workload, f"profile-{path}")) as server:
        await until_ready(server, transport, counted)
        await closed_loop(transport, WARM_UP_S, counted)
        load = asyncio.create_task(_until_cancelled(transport, counted))
        try:
            return await asyncio.to_thread(_record, server.pid, seconds, lambda: counted.requests)
        finally:
            load.cancel()
            await asyncio.wait([load])
            await transport.close()


async def _until_cancelled(transport: Transport, counted: Counted) -> None:
    while True:
        await closed_loop(transport, 0.5, counted)


def _in_process(shop: Shop, seconds: float) -> Profile:
    module = [sys.executable, "-m", "tests.benchmarks.in_process", "engine", "--seconds", str(seconds + 5)]
    asked = ["--root", str(shop.root), "--users", str(shop.users_file), "--as-of", str(shop.as_of_s)]
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *module, *asked],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it measures from now on
        found = _record(process.pid, seconds, lambda: 0)
        measured = json.loads(process.stdout.readlines()[-1])
    count = sum(found.cpu_s.values()) * 1e6 / measured["cpu_us"]
    return Profile(found.cpu_s, round(count))


def _record(pid: int, seconds: float, requests: Callable[[], int]) -> Profile:
    """Samples the process for so long, and reads what each thread's CPU time did meanwhile."""
    with tempfile.NamedTemporaryFile(suffix=".raw") as file:
        sampling = ["record", "--pid", str(pid), "--threads", "--format", "raw", "--output", file.name]
        limits = ["--rate", str(RATE_HZ), "--duration", f"{seconds:.0f}"]
        before, count, began = _thread_cpu_s(pid), requests(), time.monotonic()
        subprocess.run([_py_spy(), *sampling, *limits], check=True, capture_output=True)
        elapsed_s, count = time.monotonic() - began, requests() - count
        after, text = _thread_cpu_s(pid), Path(file.name).read_text()
    cpu_s = {thread: spent - before.get(thread, 0.0) for thread, spent in after.items()}
    ticks = RATE_HZ * seconds
    by_stage = attribute(read_samples(text.splitlines()), cpu_s, ticks, elapsed_s)
    return Profile(by_stage, count)


def read_samples(lines: Iterable[str]) -> dict[int, Samples]:
    """py-spy's raw lines, `[process …;]thread (id): name;frame;…;frame count`, by thread."""
    found: dict[int, Samples] = defaultdict(lambda: Samples(Counter(), Counter()))
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, frames = 0, []
        for part in stack.split(";"):
            if known := _THREAD.match(part):
                thread = int(known["id"])
            elif frame := _FRAME.match(part):
                frames.append(f"{frame['file']}:{frame['function']}")
        stage, may_wait = stage_of(frames)
        (found[thread].waiting if may_wait else found[thread].working)[stage] += int(count)
    return found


def attribute(samples: dict[int, Samples], cpu_s: dict[int, float], ticks: float, elapsed_s: float) -> dict[str, float]:
    """CPU seconds of each stage.

    Args:
        samples: by thread. cpu_s: what each thread has spent while `ticks` samples of it were taken in `elapsed_s`.
    """
    by_stage: dict[str, float] = defaultdict(float)
    for thread, spent_s in cpu_s.items():
        seen = samples.get(thread)
        if seen is None or not (seen.working or seen.waiting):
            by_stage[TRANSPORT] += spent_s
            continue
        worked_s = seen.working.total() / ticks * elapsed_s
        rest_s = max(spent_s - worked_s, 0.0) if seen.waiting else 0.0
        for stage, count in seen.working.items():
            by_stage[stage] += (spent_s - rest_s) * count / seen.working.total()
        for stage, count in seen.waiting.items():
            by_stage[stage] += (rest_s if seen.working else spent_s) * count / seen.waiting.total()
    return {stage: spent_s for stage, spent_s in by_stage.items() if spent_s > 0}


def _thread_cpu_s(pid: int) -> dict[int, float]:
    """CPU seconds of every thread of the process and its children."""
    parent = psutil.Process(pid)
    processes = [parent, *parent.children(recursive=True)]
    return {thread.id: thread.user_time + thread.system_time for one in processes for thread in one.threads()}


def _py_spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else "py-spy"


if __name__ == "__main__":
    typer.run(profile)
