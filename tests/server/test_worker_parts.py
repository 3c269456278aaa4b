"""The supervisor's parts by themselves: waits before a replacement, reports as one, the reserved port."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

from server.config import ServerConfig, WorkersConfig
from server.loading import LOADING
from server.workers.reports import Family, as_metrics, families_of, lasting, merged
from server.workers.reserved_port import ReservedPort
from server.workers.restarts import Restarts
from server.workers.worker import Assignment, _Work


def test_a_crash_loop_is_slowed_down_and_ends_with_a_worker_that_lives() -> None:
    restarts = Restarts(WorkersConfig(stable_after_s=10, restart_delay_s=0.25, restart_delay_s_max=1.5))
    assert [restarts.delay_s(1.0) for _ in range(6)] == [0.0, 0.25, 0.5, 1.0, 1.5, 1.5]
    assert restarts.delay_s(1.0, others_answer=False) == 1.0
    assert restarts.delay_s(60.0) == 0.0
    assert restarts.delay_s(1.0) == 0.0
    assert restarts.crash_count == 9


def registry_of(requests: int, seconds: float, queue: int, loaded_at_s: float, generation: str) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("requests", "c", ["code"], registry=registry).labels("OK").inc(requests)
    Histogram("latency", "h", buckets=(0.1, 1.0), registry=registry).observe(seconds)
    Gauge("queue", "g", registry=registry).set(queue)
    Gauge("twinrank_generation_loaded_timestamp_seconds", "g", registry=registry).set(loaded_at_s)

    class Generation(Collector):
        def collect(self) -> list[InfoMetricFamily]:
            return [InfoMetricFamily("twinrank_generation", "i", {"generation_id": generation})]

    registry.register(Generation())
    return registry


def text_of(families: list[Family]) -> list[str]:
    class Fixed(Collector):
        def collect(self) -> list[object]:  # type: ignore[override]
            return list(as_metrics(families))

    registry = CollectorRegistry()
    registry.register(Fixed())
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_reports_are_added_up_and_gauges_tell_what_is_worth_an_alert() -> None:
    one = families_of(registry_of(3, 0.05, 2, 100.0, "a"))
    other = families_of(registry_of(4, 0.5, 5, 90.0, "b"))
    lines = text_of(merged([one, other]))
    for expected in (
        'requests_total{code="OK"} 7.0',
        'latency_bucket{le="0.1"} 1.0',
        'latency_bucket{le="+Inf"} 2.0',
        "queue 7.0",
        "twinrank_generation_loaded_timestamp_seconds 90.0",
        'twinrank_generation_info{generation_id="a"} 1.0',
        'twinrank_generation_info{generation_id="b"} 1.0',
    ):
        assert expected in lines


def test_of_a_worker_that_ended_its_counts_remain_and_its_gauges_do_not() -> None:
    names = {family.name for family in lasting(families_of(registry_of(3, 0.05, 2, 100.0, "a")))}
    assert names == {"requests", "latency"}


def test_a_reserved_port_can_be_shared_by_listeners_that_ask_for_it() -> None:
    reserved = ReservedPort("127.0.0.1", 0, shared=False)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", reserved.port))
        listener.listen()
        with socket.create_connection(("127.0.0.1", reserved.port), timeout=5):
            listener.accept()[0].close()
    reserved.close()


def test_a_port_that_somebody_listens_on_is_an_error_unless_it_is_to_be_shared() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            ReservedPort("127.0.0.1", port, shared=False)
        ReservedPort("127.0.0.1", port, shared=True).close()


async def test_a_worker_stops_when_its_supervisor_ended_before_it_had_read_all_that_it_was_told() -> None:
    supervisors, workers = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=workers)
    writer.write(b"a report that is never read\n")
    await writer.drain()
    supervisors.close()  # as the kernel does for one that was killed: the worker reads a reset and not an end
    work = _Work(Assignment(1, ServerConfig(), LOADING.loader, ""))
    await asyncio.wait_for(work._obey(reader), 10)
    assert work._stop.is_set()
    writer.close()


def test_the_supervisor_imports_no_model() -> None:
    parts = "server.workers.supervisor, server.admin_service, server.front_grpcio, server.store.embedded"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {parts}; print({{'torch', 'faiss'}} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
