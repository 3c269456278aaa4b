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

from tests.benchmarks.load import Counted, GrpcBatch, GrpcStream, GrpcUnary, Transport, closed_loop, messages, open_loop
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
LOADS = (0.5, 0.7, 0.9)
"""Shares of the maximum at which latencies are taken; p50_ms and p99_ms without a suffix are those at .7."""

SERVED = (
    "grpcio_unary",
    "grpcio_stream",
    "grpcio_batch",
    "native_unary",
    "naive",
    "mosec",
    "echo_grpcio_unary",
    "echo_grpcio_stream",
    "echo_native_unary",
)
PATHS = ("engine", "plain", *SERVED)


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


def measure(path: str, shop: Shop, seconds: float) -> dict[str, float]:
    """One cell. Raises PathMissing when the path cannot be had here, RuntimeError when the counts do not agree."""
    if path in ("engine", "plain"):
        return in_process(path, shop, seconds)
    return asyncio.run(_served(path, shop, seconds))


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


def _command(path: str, shop: Shop) -> Command:
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


def _transport(path: str, shop: Shop) -> Transport:
    requests = messages(shop.user_ids(), shop.as_of_s)
    if path.endswith("_stream"):
        return GrpcStream(requests)
    if path.endswith("_batch"):
        return GrpcBatch(requests)
    payloads = [request.SerializeToString() for request in requests]
    if path == "mosec":
        from tests.benchmarks.mosec_path import HttpUnary

        return HttpUnary(payloads)
    return GrpcUnary(payloads)


async def _served(path: str, shop: Shop, seconds: float) -> dict[str, float]:
    command, transport, counted = _command(path, shop), _transport(path, shop), Counted()
    with ServerProcess(command, log_path(shop.workload, path)) as server:
        started = time.monotonic()
        await until_ready(server, transport, counted)
        ready_s = time.monotonic() - started
        await closed_loop(transport, WARM_UP_S, counted)
        before, cpu_before = counted.requests, server.cpu_s()
        rps = await closed_loop(transport, seconds, counted)
        count, cpu_s = counted.requests - before, server.cpu_s() - cpu_before
        cpu_us = cpu_s * 1e6 / max(count, 1)
        core_share = cpu_us * rps / 1e6  # well below 1: the load or another process held the server back
        cell = {"rps": rps, "cpu_us": cpu_us, "core_share": core_share, "ready_s": ready_s, "count": float(count)}
        for share in LOADS:
            p50_ms, p99_ms = await open_loop(transport, share * rps, seconds * 2 / 3, counted)
            suffix = "" if share == 0.7 else f"_at_{share * 100:.0f}"
            cell |= {f"p50_ms{suffix}": p50_ms, f"p99_ms{suffix}": p99_ms}
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
