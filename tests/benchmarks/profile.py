"""`python -m tests.benchmarks.profile`: where the CPU of a request goes, by stage, from samples of py-spy under load.

Samples say how a thread divides its time among the stages, those that wait left out; how much time it had is the CPU
time that the kernel counts for it, in some seconds before py-spy is there. Threads that run no Python, the transport's,
are their CPU time and nothing else.

py-spy stops the process for each sample with native frames, for some milliseconds: at 200 a second the server answered
a sixth of its requests, at 25 it answers most. Without native frames waiting cannot be told from working, and with
--nonblocking short functions are hardly ever seen.
"""

from __future__ import annotations

import asyncio
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
from tests.benchmarks.paths import WARM_UP_S, Shop, command_of, in_process, transport_of, until_ready
from tests.benchmarks.processes import LOAD_CORE, ONE_THREAD, SERVER_CORE, ServerProcess, log_path
from tests.benchmarks.profile_stages import UNKNOWN, is_waiting, stage_of_stack, stage_of_thread
from tests.benchmarks.serving import prepare
from tests.benchmarks.workloads import BENCH_DIR, DEMO, SYNTHETIC

PROFILED = ("engine", "native_unary", "grpcio_unary")
RATE_HZ = 25
QUIET_S = 4.0
"""How long CPU time is read before samples are taken."""
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
class Thread:
    """One thread of the process: its name, and the CPU seconds that it has spent so far."""

    name: str
    cpu_s: float


def profile(
    workload: Annotated[str, typer.Option(help=f"of {DEMO}, {', '.join(SYNTHETIC)}")] = "W1M",
    path: Annotated[list[str] | None, typer.Option(help=f"default {', '.join(PROFILED)}")] = None,
    seconds: Annotated[float, typer.Option(min=1.0)] = 60.0,
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
    cpu_us = in_process("engine", shop, QUIET_S)["cpu_us"]
    duration = ["--seconds", str(seconds + QUIET_S + 5)]
    asked = ["--root", str(shop.root), "--users", str(shop.users_file), "--as-of", str(shop.as_of_s)]
    module = [sys.executable, "-m", "tests.benchmarks.in_process", "engine", *asked, *duration]
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *module],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it measures from now on
        found = _record(process.pid, seconds, lambda: 0)
    return Profile(found.cpu_s, round(sum(found.cpu_s.values()) * 1e6 / cpu_us))


def _record(pid: int, seconds: float, requests: Callable[[], int]) -> Profile:
    """What each thread's CPU time does in QUIET_S, then samples of the process for so long."""
    before, count = _threads(pid), requests()
    time.sleep(QUIET_S)
    after, count = _threads(pid), requests() - count
    nothing = Thread("", 0.0)
    spent = {thread: Thread(now.name, now.cpu_s - before.get(thread, nothing).cpu_s) for thread, now in after.items()}
    with tempfile.NamedTemporaryFile(suffix=".raw") as file:
        sampling = ["record", "--native", "--pid", str(pid), "--threads", "--format", "raw", "--output", file.name]
        limits = ["--rate", str(RATE_HZ), "--duration", f"{seconds:.0f}"]
        subprocess.run([_py_spy(), *sampling, *limits], check=True, capture_output=True)
        samples = read_samples(Path(file.name).read_text().splitlines())
    return Profile(attribute(samples, spent), count)


def read_samples(lines: Iterable[str]) -> dict[int, Counter[str]]:
    """py-spy's raw lines, `thread (id): name;frame;…;frame count`, as working samples of each stage by thread.

    A thread that was only ever seen waiting keeps those samples: what it has worked, it has worked there.
    """
    working: dict[int, Counter[str]] = defaultdict(Counter)
    waiting: dict[int, Counter[str]] = defaultdict(Counter)
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, python, native = 0, list[str](), list[str]()
        for part in stack.split(";"):
            if known := _THREAD.match(part):
                thread = int(known["id"])
            elif (frame := _FRAME.match(part)) and frame["file"].endswith(".py"):
                python.append(f"{frame['file']}:{frame['function']}")
                native.clear()
            elif frame:
                native.append(frame["function"])
        (waiting if is_waiting(native) else working)[thread][stage_of_stack(python)] += int(count)
    return {thread: working[thread] or waiting[thread] for thread in {*working, *waiting}}


def attribute(samples: dict[int, Counter[str]], threads: dict[int, Thread]) -> dict[str, float]:
    """CPU seconds of each stage, from the samples of the threads and the CPU seconds that they spent meanwhile."""
    by_stage: dict[str, float] = defaultdict(float)
    for number, thread in threads.items():
        seen = samples.get(number) or Counter({stage_of_thread(thread.name): 1})
        for stage, count in seen.items():
            by_stage[stage] += thread.cpu_s * count / seen.total()
    return {stage: cpu_s for stage, cpu_s in by_stage.items() if cpu_s > 0}


def _threads(pid: int) -> dict[int, Thread]:
    """Every thread of the process."""
    spent = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}
    names = {number: Path(f"/proc/{pid}/task/{number}/comm") for number in spent}
    return {number: Thread(file.read_text().strip(), spent[number]) for number, file in names.items() if file.exists()}


def _py_spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else "py-spy"


if __name__ == "__main__":
    typer.run(profile)
