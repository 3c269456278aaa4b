"""A store, and a writer on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from server.config import ServerConfig
from server.events.decoding import EventDecoder
from server.events.writer import EventWriter
from tests.server.store_process import StoreProcess


@pytest.fixture(scope="session")
def _one_store() -> Iterator[StoreProcess]:
    process = StoreProcess()
    yield process.start()
    process.close()


@pytest.fixture
def store(_one_store: StoreProcess) -> StoreProcess:
    """A running store without a key in it."""
    _one_store.client.flushall()
    _one_store.client.script_flush()
    return _one_store


@pytest.fixture
def own_store() -> Iterator[StoreProcess]:
    """A store that the test may stop and start."""
    process = StoreProcess()
    yield process.start()
    process.close()


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    return ServerConfig(
        generations={"root": tmp_path},
        state={"deeds_max": 6, "signals_max": 4, "event_ids_max": 5},
        events={"types": {"wish": "deed"}},
    )


@pytest.fixture
def decoder(config: ServerConfig) -> EventDecoder:
    return EventDecoder(config)


@pytest.fixture
async def writer(store: StoreProcess, config: ServerConfig) -> AsyncIterator[EventWriter]:
    writer = EventWriter(store.address, config.state, timeout_s=5.0, retry_after_ms=50)
    writer.start()
    yield writer
    await writer.stop()
