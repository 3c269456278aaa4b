"""Start, serve, drain, stop: how the parts become one server, and how it goes down without failing a request.

On SIGTERM or SIGINT: health says NOT_SERVING; for `drain_s` everything is answered as before, so that balancers and
health-checking clients leave on their own; then new calls are refused with UNAVAILABLE (clients retry elsewhere) while
those in flight finish within `stop_grace_s`; then the connections end, and the process exits with 0. A second signal
skips the wait.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from grpc import aio

from server.admin_service import ADMIN_DEADLINE_S, ServerFacts, start_admin
from server.batching import Engine, MicroBatcher
from server.catalogue.desk import CatalogueDesk
from server.catalogue.follower import CatalogueFollower
from server.config import ConfigError, Front, ServerConfig
from server.events.service import EventService
from server.events.streams import EventStreams
from server.events.writer import EventWriter
from server.front_grpcio import RECOMMENDATION_SERVICE, CallAdapter, GrpcioFront, build_server
from server.generations import GenerationFollower, Loader
from server.health import Health
from server.logs import RequestLog, configure_logs, log_listening
from server.metrics import Gauges, Metrics, MetricsListener
from server.service import RecommendationService
from server.state.known_purges import KnownPurges
from server.state.reader import StateReader
from server.state.stateful_engine import StatefulEngine
from server.store.address import StoreAddress
from server.store.connection import connect
from server.store.keeper import StoreKeeper
from server.streaming import StreamService

PURGES_TIMEOUT_S = 5.0
"""To read the whole purge list, on the thread that follows changes."""

LAST_BYTES_S = 0.05
"""Between the last answer and the end of its connection: grpcio hands bytes to the kernel on threads of its own."""

if TYPE_CHECKING:
    from server.front_native import NativeFront

_LOGGER = structlog.stdlib.get_logger("twinrank.server")


class Server:
    """One server process on the running event loop. The ports are known after `start`."""

    def __init__(
        self, config: ServerConfig, load: Loader, *, fallback_id: str = "", store: StoreAddress | None = None
    ) -> None:
        """`fallback_id`: the generation to start with when the current one is refused; empty: none.

        `store`: where it is, or will be soon; None: nothing is remembered, events and changes of items are refused.
        """
        self._desk = CatalogueDesk(config, store) if store is not None and config.admin.enabled else None
        self._config = config
        self.store = store
        self._states: StateReader | None = None
        self._catalogue: CatalogueFollower | None = None
        if store is not None:
            purges = KnownPurges(connect(store, timeout_s=PURGES_TIMEOUT_S))
            reading = connect(store, timeout_s=config.store.read_timeout_ms / 1000)
            self._states = StateReader(reading, purges)
            self._catalogue = CatalogueFollower(store, on_purge=purges.heard, on_gap=purges.read_again)
        self._fallback_id = fallback_id
        self._loop = asyncio.get_running_loop()
        self._started_at_s = time.time()
        self._draining = False
        self.metrics = Metrics()
        batching, limits = config.batching, config.limits
        self.batcher = MicroBatcher(
            batching.queue_length_max, batching.batch_size_max, limits.retry_after_ms, self.metrics.batch_done
        )
        self._request_log = RequestLog(config.logs)
        self._service = RecommendationService(config, self.batcher)
        self._streams = StreamService(limits, self._service, self.metrics, self._request_log)
        self._writer = _event_writer(config, store) if store is not None else None
        self._events = EventService(config, self._writer)
        self._event_streams = EventStreams(config, self._events, self.metrics, self._request_log)
        self._health = Health((RECOMMENDATION_SERVICE,))
        self.follower = GenerationFollower(
            config.generations.root, config.generations.poll_interval_s, load, self._swap
        )
        self._public: GrpcioFront | NativeFront | None = None
        self._admin: aio.Server | None = None
        self._metrics_listener: MetricsListener | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.port = self.admin_port = self.metrics_port = 0

    async def start(self) -> None:
        """Loads the current generation, then listens. Without one it listens too, NOT_SERVING, until one appears.

        Raises:
            RuntimeError, OSError: an address is taken.
            ConfigError: the admin token cannot be had.
        """
        self.batcher.start()
        if self._writer is not None:
            self._writer.start()
            self.metrics.event_counts = self._writer.counts
        await asyncio.to_thread(self.follower.look)
        if self.batcher.engine is None and self._fallback_id:
            await asyncio.to_thread(self.follower.fall_back, self._fallback_id)
        if self.batcher.engine is None:
            _LOGGER.warning("no generation to serve yet", root=str(self._config.generations.root))
        # What has been loaded stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        self._attach_gauges()
        if self._config.metrics.enabled:
            metrics = self._config.metrics
            self._metrics_listener = MetricsListener(self.metrics.registry, metrics.host, metrics.port)
            self.metrics_port = self._metrics_listener.port
        if self._catalogue is not None:
            self._catalogue.start()
            self.metrics.registry.register(self._catalogue)
        if self._config.admin.enabled:
            await self._start_admin()
        self._public = self._build_front()
        self.port = self._public.port
        await self._public.start()
        self.follower.start()

    def begin_drain(self) -> None:
        """From here on health says NOT_SERVING; requests are answered as before."""
        if self._draining:
            return
        self._draining = True
        _LOGGER.info("draining", drain_s=self._config.lifecycle.drain_s)
        self._health.begin_drain()

    async def stop(self) -> None:
        """Refuses new calls, finishes those in flight within the grace, closes everything. May be called twice."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self.begin_drain()
        self._service.admission.close()
        self._events.admission.close()
        self._streams.drain()
        self._event_streams.drain()
        self._health.end_watches()
        if self._public is not None:
            await self._stop_public(self._public)
        if self._admin is not None:
            await self._admin.stop(1.0)
        if self._desk is not None:
            await self._desk.stop()
        self.follower.stop()
        if self._catalogue is not None:
            await asyncio.to_thread(self._catalogue.stop)
        if self._writer is not None:
            await self._writer.stop()
        await self.batcher.stop()
        if self._metrics_listener is not None:
            await asyncio.to_thread(self._metrics_listener.stop)
        _LOGGER.info("stopped", answered_count=self.metrics.answered_count)

    def _build_front(self) -> GrpcioFront | NativeFront:
        config = self._config
        adapter = CallAdapter(self.metrics, self._request_log, config.limits.default_deadline_ms / 1000)
        if config.listen.front is Front.GRPCIO:
            return GrpcioFront(config, self._service, self._streams, self._event_streams, self._health, adapter)
        try:
            from server.front_native import NativeFront  # only who asks for it needs the library
        except ImportError as error:
            raise ConfigError(f"listen.front is 'native', which needs pygrpc-native: {error}") from error
        fallback = build_server(config, self._streams, self._event_streams, self._health, adapter, service=None)
        return NativeFront(config, self._service, fallback, self.metrics, self._request_log)

    async def _stop_public(self, public: GrpcioFront | NativeFront) -> None:
        try:
            async with asyncio.timeout(self._config.lifecycle.stop_grace_s):
                for part in (self._service, self._streams, self._events, self._event_streams):
                    await part.admission.until_empty()
                await asyncio.sleep(LAST_BYTES_S)
        except TimeoutError:
            _LOGGER.warning("calls are cut off", in_flight_count=self._service.admission.in_flight_count)
        await public.stop()

    async def _start_admin(self) -> None:
        facts = ServerFacts(
            started_at_s=self._started_at_s,
            answered_count=lambda: self.metrics.answered_count,
            in_flight_count=lambda: self._service.admission.in_flight_count,
            draining=lambda: self._draining,
        )
        adapter = CallAdapter(self.metrics, self._request_log, ADMIN_DEADLINE_S)
        self._admin, self.admin_port = await start_admin(
            self._config, self.follower, facts, adapter, self.store, self._desk
        )
        if self._desk is not None:
            self._desk.start()
            self.metrics.registry.register(self._desk)

    def _swap(self, engine: Engine) -> None:
        """Called on the follower's thread."""
        live = getattr(engine, "live", None)
        if self._catalogue is not None and live is not None:
            self._catalogue.catch_up(live)
        self.batcher.swap(engine if self._states is None else StatefulEngine(engine, self._states))
        self._loop.call_soon_threadsafe(self._health.set_serving)

    def _attach_gauges(self) -> None:
        self.metrics.gauges = Gauges(
            in_flight_count=lambda: self._service.admission.in_flight_count,
            stream_count=lambda: self._streams.admission.in_flight_count,
            queue_length=lambda: self.batcher.queue_length,
            generation_id=lambda: self.follower.status.serving_id,
            generation_loaded_at_s=lambda: self.follower.status.loaded_at_s,
            generations_refused_count=lambda: self.follower.status.refused_count,
            draining=lambda: self._draining,
        )


def _event_writer(config: ServerConfig, store: StoreAddress) -> EventWriter:
    timeout_s = config.store.write_timeout_ms / 1000
    return EventWriter(store, config.state, timeout_s=timeout_s, retry_after_ms=config.limits.retry_after_ms)


def run(config: ServerConfig, load: Loader) -> int:
    """Serves until a signal; returns the exit status.

    Raises:
        ConfigError: the store that is configured cannot be one.
    """
    configure_logs(config.logs)
    keeper = StoreKeeper(config)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve_until_signal(config, load, keeper))
    finally:
        keeper.stop()


async def _serve_until_signal(config: ServerConfig, load: Loader, keeper: StoreKeeper) -> int:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    server = Server(config, load, store=keeper.address)
    server.metrics.registry.register(keeper)
    keeper.start()
    try:
        await asyncio.to_thread(keeper.refuse_unfit)
        await server.start()
        log_listening(config, server.port, server.admin_port, server.metrics_port, server.follower.status.serving_id)
        received = await signals.get()
        _LOGGER.info("signal received", signal=received.name)
        server.begin_drain()
        try:
            async with asyncio.timeout(config.lifecycle.drain_s):
                await signals.get()
        except TimeoutError:
            pass
    finally:
        await server.stop()
    return 0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (it is not on every platform), asyncio's own loop otherwise."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
