"""The paths: for each of them, one measurement of one workload, as a cell that `serving` writes and sums up."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop

from tests.benchmarks.load import (
    CHANNELS,
    IN_FLIGHT,
    Counted,
    GrpcBatch,
    GrpcStream,
    GrpcUnary,
    Transport,
    closed_loop,
    messages,
    open_loop,
)
from tests.benchmarks.processes import (
    ONE_THREAD,
    SERVER_CORE,
    Command,
    PathMissing,
    ServerProcess,
    log_path,
    other,
    twinrank,
)

READY_TIMEOUT_S = 120.0
WARM_UP_S = 1.0
OPEN_LOOP_SHARE = 2 / 3
"""Of the closed loop's seconds, for each of the three open loops."""
LOADS = (0.5, 0.7, 0.9)
"""Shares of the maximum at which latencies are taken; p50_ms and p99_ms without a suffix are those at .7."""

SERVED = (
    "grpcio_unary",
    "grpcio_stream",
    "grpcio_batch",
    "native_unary",
    "echo_grpcio_unary",
    "echo_grpcio_stream",
    "echo_native_unary",
    "naive",
    "mosec",
)
PATHS = ("engine", "plain", *SERVED)
GROWTH_PATHS = ("engine", "native_unary")
"""What is measured on the shops of other sizes, which are there to show growth."""


@dataclass(frozen=True)
class Shop:
    """What a path is measured on."""

    workload: str
    root: Path
    users_file: Path
    as_of_s: float

    def user_ids(self) -> list[str]:
        """The shoppers that are asked for, in turn."""
        return self.users_file.read_text().split()


def measure(path: str, shop: Shop, seconds: float, in_flight: int) -> dict[str, float]:
    """One cell. Raises PathMissing when the path cannot be had here, RuntimeError when the counts do not agree."""
    if path in ("engine", "plain"):
        return in_process(path, shop, seconds)
    return uvloop.run(_served(path, shop, seconds, in_flight))


def in_process(what: str, shop: Shop, seconds: float) -> dict[str, float]:
    """Runs tests.benchmarks.in_process on the server's core."""
    arguments = ["--root", str(shop.root), "--users", str(shop.users_file), "--as-of", str(shop.as_of_s)]
    module = [sys.executable, "-m", "tests.benchmarks.in_process", what, *arguments, "--seconds", str(seconds)]
    done = subprocess.run(
        ["taskset", "-c", str(SERVER_CORE), *module],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    cell: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return cell


def command_of(path: str, shop: Shop) -> Command:
    """The server of a path. Raises PathMissing."""
    if path == "mosec":
        from tests.benchmarks.mosec_path import mosec

        return mosec(shop.root)
    if path == "echo_native_unary":
        return other("native_echo", shop.root)
    if path.startswith("echo_grpcio"):
        return other("echo", shop.root)
    if path == "naive":
        return other("naive", shop.root)
    return twinrank(shop.root, path.partition("_")[0])


def transport_of(path: str, shop: Shop, in_flight: int = IN_FLIGHT) -> Transport:
    """How a path is asked."""
    requests = messages(shop.user_ids(), shop.as_of_s)
    if path.endswith("_stream"):
        return GrpcStream(requests, in_flight)
    if path.endswith("_batch"):
        return GrpcBatch(requests)
    payloads = [request.SerializeToString() for request in requests]
    if path == "mosec":
        from tests.benchmarks.mosec_path import HttpUnary

        return HttpUnary(payloads, in_flight)
    return GrpcUnary(payloads, in_flight)


async def _served(path: str, shop: Shop, seconds: float, in_flight: int) -> dict[str, float]:
    command, transport, counted = command_of(path, shop), transport_of(path, shop, in_flight), Counted()
    with ServerProcess(command, log_path(shop.workload, path)) as server:
        started = time.monotonic()
        await until_ready(server, transport, counted)
        ready_s = time.monotonic() - started
        await closed_loop(transport, WARM_UP_S, counted)
        cell = {"ready_s": ready_s, "in_flight": float(transport.in_flight)}
        cell |= await _full(server, transport, seconds, counted)
        if command.batch_size is not None:
            cell["batch_size"] = await asyncio.to_thread(command.batch_size)
        if path != "mosec":
            cell["channels"] = float(CHANNELS)
        for share in LOADS:
            found = await open_loop(transport, share * cell["rps"], seconds * OPEN_LOOP_SHARE, counted)
            suffix = "" if share == 0.7 else f"_at_{share * 100:.0f}"
            cell |= {f"p50_ms{suffix}": found.p50_ms, f"p99_ms{suffix}": found.p99_ms}
            cell[f"start_lag_p99_ms{suffix}"] = found.start_lag_p99_ms
        cell["pss_mb"] = server.pss_mb()
        await transport.close()
        sent_ok = counted.calls - counted.failed
        await asyncio.sleep(0.1)
        answered = await asyncio.to_thread(command.ok_count)
    if counted.failed or answered != sent_ok:
        raise RuntimeError(
            f"{path}: {sent_ok} calls came back OK and {counted.failed} failed, but the server counts {answered} OK"
        )
    return cell


async def _full(server: ServerProcess, transport: Transport, seconds: float, counted: Counted) -> dict[str, float]:
    """The closed loop: rate, CPU, and who used which share of a core meanwhile.

    Well below 1, `core_share` says that the server was not what set the rate; near 1, `load_share` that the load was;
    above a few hundredths, `others_share` that the machine was not quiet.
    """
    load = psutil.Process()
    before, server_s, load_s, all_s = counted.requests, server.cpu_s(), sum(load.cpu_times()[:2]), _busy_s()
    began = time.perf_counter()
    rps = await closed_loop(transport, seconds, counted)
    elapsed_s, count = time.perf_counter() - began, counted.requests - before
    server_s, load_s = server.cpu_s() - server_s, sum(load.cpu_times()[:2]) - load_s
    return {
        "rps": rps,
        "cpu_us": server_s * 1e6 / max(count, 1),
        "count": float(count),
        "core_share": server_s / elapsed_s,
        "load_share": load_s / elapsed_s,
        "others_share": max(_busy_s() - all_s - server_s - load_s, 0.0) / elapsed_s,
    }


def _busy_s() -> float:
    """CPU seconds of all processes of the machine."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "softirq", 0.0))


async def until_ready(server: ServerProcess, transport: Transport, counted: Counted) -> None:
    """Waits for the first good answer, and counts it. Raises PathMissing when none comes."""
    until = time.monotonic() + READY_TIMEOUT_S
    while True:
        server.check()
        try:
            await transport.open(server.command.target)
        except OSError as error:  # ConnectionError: no server answers yet
            if time.monotonic() > until:
                raise PathMissing(f"{server.command.name} does not listen after {READY_TIMEOUT_S:g} s") from error
            continue
        break
    while not await transport.send(0):
        server.check()
        if time.monotonic() > until:
            raise PathMissing(f"{server.command.name} gives no answer after {READY_TIMEOUT_S:g} s")
        await asyncio.sleep(0.05)
    counted.requests += transport.requests_per_unit
    counted.calls += 1
