"""Clients of the store: what is refused at the first word, and what errors become."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from valkey import exceptions as valkey_errors

from server.config import ConfigError, ServerConfig
from server.store.address import StoreAddress
from server.store.connection import connect, connect_async, read_facts, warnings_of
from server.store.errors import StoreError, StoreFull, StoreUnavailable, StoreUnfit, store_error, translated
from server.store.keeper import StoreKeeper
from server.store.process import server_binary
from tests.server.store.stores import client_of, embedded, wait_until
from tests.server.waiting import until


@contextmanager
def foreign(tmp_path: Path, *options: str) -> Iterator[StoreAddress]:
    """A Valkey that somebody else runs."""
    path = tmp_path / "s"
    process = subprocess.Popen(
        [str(server_binary()), "--port", "0", "--unixsocket", str(path), "--save", "", *options],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(path.exists)
        yield StoreAddress(f"unix://{path}?db=0")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreAddress]:
    # A cluster's bus needs a port of its own; it is never spoken to.
    with foreign(tmp_path, "--cluster-enabled", "yes", "--port", "17391", "--cluster-port", "17392") as address:
        yield address


async def test_a_cluster_is_refused_before_it_gets_anything(cluster: StoreAddress) -> None:
    with client_of(cluster) as client, pytest.raises(StoreUnfit, match="runs in cluster mode"), translated():
        client.set("key", "value")
    asyncio_client: Any = connect_async(cluster, timeout_s=5.0)
    with pytest.raises(StoreUnfit, match="one primary"), translated():
        await asyncio_client.set("key", "value")
    await asyncio_client.aclose()


def test_a_server_does_not_start_with_a_cluster(cluster: StoreAddress) -> None:
    keeper = StoreKeeper(ServerConfig(store={"mode": "external", "url": cluster.url}))
    with pytest.raises(ConfigError, match="runs in cluster mode"):
        keeper.refuse_unfit()


def test_a_server_starts_without_an_external_store_that_is_down(tmp_path: Path) -> None:
    keeper = StoreKeeper(ServerConfig(store={"mode": "external", "url": f"unix://{tmp_path}/nobody"}))
    keeper.refuse_unfit()
    keeper.start()
    wait_until(lambda: keeper._store is not None and keeper._store.failure)
    samples = {metric.name: metric.samples[0].value for metric in keeper.collect()}
    keeper.stop()
    assert samples["twinrank_store_up"] == 0


def test_an_external_store_is_watched_and_not_stopped(tmp_path: Path) -> None:
    with foreign(tmp_path, "--appendonly", "yes") as address:
        keeper = StoreKeeper(ServerConfig(store={"mode": "external", "url": address.url}))
        keeper.start()
        wait_until(lambda: keeper._store is not None and keeper._store.is_up)
        samples = {metric.name: metric.samples[0].value for metric in keeper.collect()}
        assert samples["twinrank_store_up"] == 1
        assert samples["twinrank_store_memory_bytes"] > 0
        keeper.stop()
        with client_of(address) as client:
            assert client.ping()


def test_a_replica_is_refused(tmp_path: Path) -> None:
    with (
        foreign(tmp_path, "--replicaof", "127.0.0.1", "1") as address,
        client_of(address) as client,
        pytest.raises(StoreUnfit, match="address of its primary"),
        translated(),
    ):
        client.set("key", "value")


def test_a_store_that_would_lose_data_is_told_of(tmp_path: Path) -> None:
    with (
        foreign(tmp_path, "--appendonly", "no", "--maxmemory-policy", "allkeys-lru") as address,
        client_of(address) as client,
    ):
        assert ["append-only" in line or "allkeys-lru" in line for line in warnings_of(read_facts(client))] == [
            True
        ] * 2


def test_a_store_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with client_of(StoreAddress(f"unix://{tmp_path}/nobody")) as client, pytest.raises(StoreUnavailable), translated():
        client.get("key")


async def test_a_wrong_password_is_unfit(tmp_path: Path) -> None:
    with foreign(tmp_path, "--requirepass", "right") as address:
        wrong = StoreAddress(f"{address.url}&password=wrong")
        with client_of(wrong) as client, pytest.raises(StoreUnfit), translated():
            client.get("key")
        right = StoreAddress(f"{address.url}&password=right")
        with client_of(right) as client:
            assert client.get("key") is None
        assert "right" not in str(right)
        assert "right" not in repr(right)


def test_a_store_that_hangs_is_given_up_in_time_and_the_write_is_not_repeated(directory: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as other:
        client: Any = connect(store.address, timeout_s=0.1)
        assert client.incr("count") == 1
        os.kill(store.pid, signal.SIGSTOP)
        started_s = time.monotonic()
        with pytest.raises(StoreUnavailable), translated():
            client.incr("count")
        assert time.monotonic() - started_s < 1.0
        os.kill(store.pid, signal.SIGCONT)
        assert int(other.get("count")) <= 2  # done once, unknown to the caller, or not at all
        client.close()


async def test_the_asyncio_client_survives_a_restart_of_the_store(directory: Path) -> None:
    with embedded(directory) as store:
        client: Any = connect_async(store.address, timeout_s=5.0)
        await client.set("key", "value")
        os.kill(store.pid, signal.SIGKILL)
        await until(lambda: store.restart_count == 1 and store.is_up)
        assert await client.get("key") == b"value"
        await client.aclose()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (valkey_errors.BusyLoadingError("LOADING Valkey is loading the dataset in memory"), StoreUnavailable),
        (valkey_errors.TimeoutError("Timeout reading from socket"), StoreUnavailable),
        (valkey_errors.ResponseError("BUSY Valkey is busy running a script."), StoreUnavailable),
        (valkey_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), StoreFull),
        (valkey_errors.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), StoreFull),
        (valkey_errors.ResponseError("Command # 1 (SET a b) of pipeline caused error: MISCONF No space"), StoreFull),
        (valkey_errors.ReadOnlyError("You can't write against a read only replica."), StoreUnfit),
        (valkey_errors.ClusterDownError("Hash slot not served"), StoreUnfit),
        (valkey_errors.ResponseError("ERR syntax error"), StoreError),
        (valkey_errors.ResponseError("Command # 1 (SET MISCONF b) of pipeline caused error: ERR syntax"), StoreError),
        (BrokenPipeError("Broken pipe"), StoreUnavailable),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else value.__name__,
)
def test_errors_of_the_library_become_errors_of_ours(error: Exception, expected: type[StoreError]) -> None:
    assert type(store_error(error)) is expected


def test_a_missing_script_passes_since_it_has_its_own_answer() -> None:
    with pytest.raises(valkey_errors.NoScriptError), translated():
        raise valkey_errors.NoScriptError("No matching script.")


def test_an_address_goes_to_workers_and_hides_its_password() -> None:
    address = StoreAddress("valkey://user:secret@host:6379/0")
    assert pickle.loads(pickle.dumps(address)) == address
    assert str(address) == "valkey://***@host:6379/0"
