"""The supervisor: holds the port, keeps the workers up, and is the one place to ask about them and to end them.

It answers no recommendation itself. SIGTERM and SIGINT drain all workers and end it; a second signal skips the wait;
SIGHUP replaces the workers one by one. The admin and the metrics listener are here, and speak for all workers; so is
the embedded store, which is stopped after them.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.config import ServerConfig
from server.examination import Loading
from server.logs import RequestLog, configure_logs, log_listening
from server.metrics import Metrics, MetricsListener
from server.store.keeper import StoreKeeper
from server.workers.forkserver import start_forkserver
from server.workers.pool import REFRESH_PATIENCE_S, Pool
from server.workers.reports import as_metrics, families_of, merged
from server.workers.reserved_port import ReservedPort

if TYPE_CHECKING:
    from grpc import aio

    from server.catalogue.desk import CatalogueDesk

_LOGGER = structlog.stdlib.get_logger("twinrank.supervisor")


def supervise(config: ServerConfig, loading: Loading, count: int) -> int:
    """Serves with `count` workers until a signal; the exit status.

    Raises:
        ConfigError, RuntimeError, OSError: an address is taken, or the admin token cannot be had.
    """
    configure_logs(config.logs)
    port = ReservedPort(config.listen.host, config.listen.port, shared=config.listen.port_shared)
    try:
        start_forkserver()
        return asyncio.run(_Supervisor(config, loading, count, port.port).run())
    finally:
        port.close()


class PoolMetrics(Collector):
    """What a scrape reads: the workers' metrics and the supervisor's own as one, the pool's and the store's."""

    def __init__(self, pool: Pool, own: Metrics, keeper: StoreKeeper, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._keeper = keeper
        self._own = own
        self._loop = loop
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing: what there will be is known only when workers have reported."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called on the listener's thread; the pool lives on the loop's."""
        return iter(asyncio.run_coroutine_threadsafe(self._collect(), self._loop).result(10 * REFRESH_PATIENCE_S))

    async def _collect(self) -> list[Metric]:
        pool = self._pool
        await pool.refresh()
        workers = GaugeMetricFamily("twinrank_workers", "Worker processes by state.", labels=["state"])
        for state, count in pool.state_counts().items():
            workers.add_metric([state.value], count)
        return [
            *as_metrics(merged([pool.families(), families_of(self._own.registry)])),
            workers,
            GaugeMetricFamily("twinrank_workers_ready", "Workers that listen and have a generation.", pool.ready_count),
            GaugeMetricFamily("twinrank_workers_wanted", "Workers that there should be.", pool.count),
            CounterMetricFamily("twinrank_worker_starts", "Workers started.", pool.start_count),
            CounterMetricFamily("twinrank_worker_crashes", "Workers that ended unasked.", pool.crash_count),
            *self._keeper.collect(),
        ]


class _Supervisor:
    """One run, on the event loop."""

    def __init__(self, config: ServerConfig, loading: Loading, count: int, port: int) -> None:
        self._config = config
        self._desk: CatalogueDesk | None = None
        self._port = port
        workers_config = config.model_copy(
            update={
                "listen": config.listen.model_copy(update={"port": port, "port_shared": True}),
                "admin": config.admin.model_copy(update={"enabled": False}),
                "metrics": config.metrics.model_copy(update={"enabled": False}),
            }
        )
        self._keeper = StoreKeeper(config)
        self._pool = Pool(workers_config, loading, count, self._keeper.address)
        self._metrics = Metrics()
        self._started_at_s = time.time()

    async def run(self) -> int:
        """Until a signal; the exit status. Raises RuntimeError when the workers cannot start."""
        signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, signals.put_nowait, number)
        pool, config = self._pool, self._config
        admin, listener, admin_port, metrics_port = None, None, 0, 0
        pool.start()
        try:
            self._keeper.start()
            await asyncio.to_thread(self._keeper.refuse_unfit)
            if config.metrics.enabled:
                registry = PoolMetrics(pool, self._metrics, self._keeper, loop).registry
                listener = MetricsListener(registry, config.metrics.host, config.metrics.port)
                metrics_port = listener.port
            if config.admin.enabled:
                admin, admin_port = await self._start_admin()
            announcing = asyncio.create_task(self._announce(admin_port, metrics_port))
            failing = asyncio.create_task(pool.until_failure())
            await self._obey(signals, failing)
            announcing.cancel()
            failing.cancel()
            pool.drain()
            if not pool.failure:
                await self._wait_unless_signalled(signals)
        finally:
            pool.stop()
            await pool.until_ended()
            if admin is not None:
                await admin.stop(1.0)
            if self._desk is not None:
                await self._desk.stop()
            await asyncio.to_thread(self._keeper.stop)  # the workers' last events are in it
            if listener is not None:
                await asyncio.to_thread(listener.stop)
        if pool.failure:
            raise RuntimeError(pool.failure)
        _LOGGER.info("stopped", answered_count=pool.answered_count)
        return 0

    async def _obey(self, signals: asyncio.Queue[signal.Signals], failing: asyncio.Task[None]) -> None:
        """Rolls on SIGHUP; returns at the first signal to end, or when the workers cannot start."""
        rolling: asyncio.Task[None] | None = None
        try:
            while True:
                signalled = asyncio.create_task(signals.get())
                await asyncio.wait((signalled, failing), return_when=asyncio.FIRST_COMPLETED)
                if not signalled.done():
                    signalled.cancel()
                    return
                received = signalled.result()
                _LOGGER.info("signal received", signal=received.name)
                if received is not signal.SIGHUP:
                    return
                if rolling is None or rolling.done():
                    rolling = asyncio.create_task(self._pool.roll())
        finally:
            if rolling is not None:
                rolling.cancel()

    async def _wait_unless_signalled(self, signals: asyncio.Queue[signal.Signals]) -> None:
        drain_s = self._config.lifecycle.drain_s
        _LOGGER.info("draining", drain_s=drain_s)
        try:
            async with asyncio.timeout(drain_s):
                while await signals.get() is signal.SIGHUP:
                    pass
        except TimeoutError:
            pass

    async def _start_admin(self) -> tuple[aio.Server, int]:
        # Here and not above: these import grpc, which takes its time, while the forkserver is at its imports already.
        from server.admin_service import ADMIN_DEADLINE_S, ServerFacts, start_admin
        from server.catalogue.desk import CatalogueDesk
        from server.front_grpcio import CallAdapter

        pool, metrics = self._pool, self._metrics
        facts = ServerFacts(
            started_at_s=self._started_at_s,
            answered_count=lambda: pool.answered_count + metrics.answered_count,
            in_flight_count=lambda: pool.in_flight_count,
            draining=lambda: pool.draining,
            refresh=pool.refresh,
        )
        adapter = CallAdapter(metrics, RequestLog(self._config.logs), ADMIN_DEADLINE_S)
        store = self._keeper.address
        if store is not None:
            self._desk = CatalogueDesk(self._config, store)
            self._desk.start()
            metrics.registry.register(self._desk)
        return await start_admin(self._config, pool, facts, adapter, store, self._desk)

    async def _announce(self, admin_port: int, metrics_port: int) -> None:
        await self._pool.until_listening()
        if self._pool.failure:
            return
        log_listening(
            self._config,
            self._port,
            admin_port,
            metrics_port,
            self._pool.status.serving_id,
            worker_count=self._pool.count,
            seconds=round(time.time() - self._started_at_s, 3),
        )
