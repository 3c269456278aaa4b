"""`python -m tests.benchmarks.fronts`: what our server costs beside its engine, each front against its own echo.

Our server runs around an engine that costs nothing (`constant_server`); its CPU a request is then the overhead that
`native_unary` minus `engine` measures on a workload, and is compared with the echo's under the same load.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from index.generation import GenerationWriter, set_current
from tests.benchmarks.load import Counted, GrpcStream, GrpcUnary, Transport, closed_loop, messages
from tests.benchmarks.paths import WARM_UP_S, until_ready
from tests.benchmarks.processes import LOAD_CORE, Command, ServerProcess, log_path, other, twinrank

USER_COUNT = 20_000
PAIRS = {
    "native_unary": ("native", "native_echo", False),
    "grpcio_stream": ("grpcio", "echo", True),
    "grpcio_unary": ("grpcio", "echo", False),
}
"""What is measured: our front, the echo it is compared with, and whether the load comes as streams."""


def fronts(
    which: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(PAIRS)}; default all")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(min=0.2)] = 2.0,
) -> None:
    """Measures in turn, and prints medians."""
    os.sched_setaffinity(0, {LOAD_CORE % (os.cpu_count() or 1)})
    names = which or list(PAIRS)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        with GenerationWriter(root) as writer:
            writer.add_bytes("nothing", b"nothing")
            set_current(root, writer.publish({}))
        ours: dict[str, list[float]] = {name: [] for name in names}
        echoes: dict[str, list[float]] = {name: [] for name in names}
        batch_sizes: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(repeats):
            for name in names:
                front, echo, streams = PAIRS[name]
                echoes[name].append(asyncio.run(_cpu_us(other(echo, root), streams, seconds))[0])
                cpu_us, batch_size = asyncio.run(_cpu_us(_constant(root, front), streams, seconds))
                ours[name].append(cpu_us)
                batch_sizes[name].append(batch_size)
    print(f"{'':14} {'ours µs':>8} {'echo µs':>8} {'ratio':>6} {'batch':>6}   all of ours, all of the echo's")
    for name in names:
        our_us, echo_us = statistics.median(ours[name]), statistics.median(echoes[name])
        batch_size = statistics.median(batch_sizes[name])
        print(
            f"{name:14} {our_us:8.1f} {echo_us:8.1f} {our_us / echo_us:6.2f} {batch_size:6.1f}  ",
            *(f"{value:.1f}" for value in ours[name]),
            " · ",
            *(f"{value:.1f}" for value in echoes[name]),
        )


def _constant(root: Path, front: str) -> Command:
    real = twinrank(root, front)
    arguments = [sys.executable, "-m", "tests.benchmarks.constant_server", "--front", front]
    return Command(f"constant {front}", arguments, real.environment, real.target, real.ok_count)


async def _cpu_us(command: Command, streams: bool, seconds: float) -> tuple[float, float]:
    """CPU a request, and the mean size of the engine's batches (0 for an echo, which has none)."""
    requests = messages([f"user-{row}" for row in range(USER_COUNT)], 1.7e9)
    transport: Transport = (
        GrpcStream(requests) if streams else GrpcUnary([request.SerializeToString() for request in requests])
    )
    counted = Counted()
    with ServerProcess(command, log_path("fronts", command.name.replace(" ", "-"))) as server:
        await until_ready(server, transport, counted)
        await closed_loop(transport, WARM_UP_S, counted)
        before, cpu_before = counted.requests, server.cpu_s()
        await closed_loop(transport, seconds, counted)
        count, cpu_s = counted.requests - before, server.cpu_s() - cpu_before
        await transport.close()
        if counted.failed:
            raise RuntimeError(f"{command.name}: {counted.failed} calls failed")
        return cpu_s * 1e6 / count, await asyncio.to_thread(_mean_batch_size, command)


def _mean_batch_size(command: Command) -> float:
    if "TWINRANK_METRICS__PORT" not in command.environment:
        return 0.0
    url = f"http://127.0.0.1:{command.environment['TWINRANK_METRICS__PORT']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as page:
        text = page.read().decode()
    [total] = re.findall(r"^twinrank_batch_size_sum (\S+)", text, re.MULTILINE)
    [count] = re.findall(r"^twinrank_batch_size_count (\S+)", text, re.MULTILINE)
    return float(total) / max(float(count), 1.0)


if __name__ == "__main__":
    typer.run(fronts)
