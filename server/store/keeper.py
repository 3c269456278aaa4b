"""What the process that supervises has of the store: its address at once, all else on a thread of its own.

Workers begin while the store does, and cope with one that is not there yet. The client library takes a tenth of a
second to import, so it is imported on the thread, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.config import ConfigError, Durability, ServerConfig, StoreMode
from server.store.address import StoreAddress
from server.store.layout import StoreDirectory
from server.store.syncing import Syncing

if TYPE_CHECKING:
    from server.store.embedded import EmbeddedStore
    from server.store.watch import ExternalStore

FIRST_LOOK_S = 2.0
"""How long the start waits to hear whether an external store is fit; one that is only down is waited for later."""

_LOGGER = structlog.stdlib.get_logger("twinrank.store")


def default_directory(config: ServerConfig) -> Path:
    """Where the embedded store lies: as configured, or beside the generations root."""
    return config.store.directory or config.generations.root.parent / "store"


def stand_in(config: ServerConfig) -> Syncing | None:
    """For a process that lives on for a while without the one that kept the store: syncs what it still acknowledges.

    None where the store syncs by itself, or belongs to somebody else.
    """
    if config.store.mode is not StoreMode.EMBEDDED or config.store.durability is not Durability.EVERY_SECOND:
        return None
    return Syncing(StoreDirectory(default_directory(config)))


class StoreKeeper(Collector):
    """The store of one server, from before its workers to after them; also its metrics."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises ConfigError: the directory cannot be had."""
        self._config = config
        self._store: EmbeddedStore | ExternalStore | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.address = _address(config)

    def start(self) -> None:
        """Begins; returns at once."""
        if self.address is not None:
            self._thread = threading.Thread(target=self._run, name="store-keeper", daemon=True)
            self._thread.start()

    def refuse_unfit(self) -> None:
        """Looks at an external store once.

        Raises:
            ConfigError: it is there and unfit: a cluster, a replica, too old, a wrong password.
        """
        if self.address is None or self._config.store.mode is not StoreMode.EXTERNAL:
            return
        from server.store.connection import connect, read_facts
        from server.store.errors import StoreError, StoreUnfit

        client = connect(self.address, timeout_s=FIRST_LOOK_S)
        try:
            read_facts(client)
        except StoreUnfit as error:
            raise ConfigError(f"store.url: {self.address}: {error}") from error
        except StoreError as error:
            _LOGGER.warning("store not there yet", address=str(self.address), reason=str(error))
        finally:
            client.connection_pool.disconnect()

    def stop(self) -> None:
        """After the last worker: an embedded store that nobody else uses is stopped. Takes at most some 20 s."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._store is not None:
            self._store.stop()

    def describe(self) -> list[Metric]:
        """Nothing: what there will be is known later."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The store's metrics; none where no store is wanted. Called on any thread, asks nothing of the store."""
        if self.address is None:
            return
        store = self._store
        up, used_bytes, refuses = (store.is_up, store.memory_bytes, store.disk_full) if store else (False, 0, False)
        yield GaugeMetricFamily("twinrank_store_up", "1 while the store answers.", int(up))
        yield GaugeMetricFamily("twinrank_store_memory_bytes", "Memory that the store's data takes.", used_bytes)
        yield GaugeMetricFamily(
            "twinrank_store_disk_full", "1 while writes are refused for want of disk.", int(refuses)
        )
        yield CounterMetricFamily(
            "twinrank_store_restarts", "Ends of the store that nobody asked for.", store.restart_count if store else 0
        )
        yield GaugeMetricFamily(
            "twinrank_store_log_bytes", "What the event log takes in the store.", store.log_bytes if store else 0
        )

    def _run(self) -> None:
        from server.store.retention import Retention

        assert self.address is not None
        config = self._config
        try:
            if config.store.mode is StoreMode.EMBEDDED:
                from server.store.embedded import EmbeddedStore

                self._store = EmbeddedStore(config.store, default_directory(config))
            else:
                from server.store.watch import ExternalStore

                self._store = ExternalStore(self.address)
            store = self._store
            store.start()
        except Exception:
            _LOGGER.exception("the store cannot be kept")
            return
        retention = Retention(self.address, config.log)
        while not self._stopping.wait(retention.interval_s):
            if store.is_up and store.is_owner:
                store.log_bytes = retention.trim_quietly(store.log_bytes)
        retention.close()


def _address(config: ServerConfig) -> StoreAddress | None:
    if config.store.mode is StoreMode.OFF:
        return None
    if config.store.mode is StoreMode.EXTERNAL:
        assert config.store.url is not None
        return StoreAddress(config.store.url.get_secret_value())
    directory = default_directory(config)
    try:
        return StoreDirectory(directory).address
    except OSError as error:
        raise ConfigError(f"store.directory {directory}: {error.strerror or error}") from error
