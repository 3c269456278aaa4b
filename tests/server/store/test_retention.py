"""The log keeps what is young enough and fits, and of each shard the newest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twinrank.v1 import events_pb2

from server.config import LogConfig, ServerConfig, StateConfig
from server.events.decoding import EventDecoder
from server.events.writer import EventWriter
from server.state.keys import SHARD_COUNT, log_key
from server.store.embedded import EmbeddedStore
from server.store.retention import DAY_MS, Retention
from tests.server.store.stores import client_of, embedded

EVENTS_OF_NODE = 100  # stream-node-max-entries: trimming is exact to one node


@pytest.fixture
def store(directory: Path) -> Iterator[EmbeddedStore]:
    with embedded(directory) as running:
        yield running


@pytest.fixture
def client(store: EmbeddedStore) -> Iterator[Any]:
    with client_of(store.address) as connected:
        yield connected


def trim(store: EmbeddedStore, **config: int) -> int:
    retention = Retention(store.address, LogConfig(**config))
    try:
        return retention.trim()
    finally:
        retention.close()


def test_events_beyond_the_days_leave(store: EmbeddedStore, client: Any) -> None:
    now_ms = int(time.time() * 1000)
    pipe = client.pipeline(transaction=False)
    for day in range(10, 0, -1):
        for number in range(300):
            pipe.xadd(log_key(7), {"e": b"x" * 40}, id=f"{now_ms - day * DAY_MS + 60_000}-{number}")
    pipe.execute()
    assert trim(store, retention_days=4) > 0
    [(oldest, _)] = client.xrange(log_key(7), count=1)
    assert int(oldest.split(b"-")[0]) >= now_ms - 5 * DAY_MS
    assert 4 * 300 <= client.xlen(log_key(7)) < 4 * 300 + EVENTS_OF_NODE


def test_a_log_within_its_limits_is_not_touched(store: EmbeddedStore, client: Any) -> None:
    for _ in range(500):
        client.xadd(log_key(0), {"e": b"x"})
    trim(store)
    assert client.xlen(log_key(0)) == 500


def test_a_log_beyond_its_bytes_loses_the_oldest_of_every_shard(store: EmbeddedStore, client: Any) -> None:
    per_shard = 1_000
    pipe = client.pipeline(transaction=False)
    for shard in range(SHARD_COUNT):
        for number in range(per_shard):
            pipe.xadd(log_key(shard), {"e": b"x" * 50}, id=f"{number + 10**12}-0")
        pipe.xadd("other", {"e": b"kept"})
    pipe.execute()
    client.set("state", b"x" * 1_000_000)
    before_bytes = trim(store, retention_mb=1_000, retention_days=100_000)
    assert before_bytes > 2_000_000
    after_bytes = trim(store, retention_mb=2, retention_days=100_000)
    assert after_bytes <= 2_200_000
    for shard in range(SHARD_COUNT):
        kept = client.xlen(log_key(shard))
        assert 0 < kept < per_shard
        [(newest, _)] = client.xrevrange(log_key(shard), count=1)
        assert newest == f"{per_shard - 1 + 10**12}-0".encode()
    assert client.xlen("other") == SHARD_COUNT
    assert client.strlen("state") == 1_000_000


def test_a_store_that_is_down_is_trimmed_another_time(store: EmbeddedStore) -> None:
    retention = Retention(store.address, LogConfig())
    store.stop()
    assert retention.trim_quietly(123) == 123
    retention.close()


async def test_what_the_event_writer_wrote_is_what_is_trimmed(directory: Path) -> None:
    decoder = EventDecoder(ServerConfig())
    with embedded(directory) as store, client_of(store.address) as client:
        writer = EventWriter(store.address, StateConfig(), timeout_s=5, retry_after_ms=50)
        writer.start()
        events = [
            events_pb2.Event(event_type="view", user_id="ann", item_id=f"i{number}", event_id=str(number))
            for number in range(1_000)
        ]
        await writer.write(decoder.decode(events, time.time()))
        await writer.stop()
        assert sum(client.xlen(log_key(number)) for number in range(SHARD_COUNT)) == 1_000
        trimming = Retention(store.address, LogConfig(retention_mb=1))
        assert trimming.trim() > 1_000  # it sees these bytes
        trimming.close()
