"""What the store has acknowledged it keeps; what it cannot keep it refuses."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from valkey import exceptions as valkey_errors

from server.config import Durability
from server.store.connection import read_facts
from server.store.errors import StoreError, StoreFull, StoreUnfit, translated
from server.store.layout import StoreDirectory
from server.store.syncing import data_files
from tests.server.store.stores import client_of, embedded, kill_store, left_living, wait_until


def test_durability_and_memory_of_an_adopted_store_are_those_of_this_configuration(directory: Path) -> None:
    left_living(directory, Durability.EVERY_SECOND)
    with embedded(directory, durability="always", memory_mb_max=50) as store, client_of(store.address) as client:
        facts = read_facts(client)
        assert facts.aof_fsync == "always"
        assert facts.memory_bytes_max == 50 * 1_048_576


def test_a_store_that_dies_is_started_again_and_has_every_acknowledged_write(directory: Path) -> None:
    with embedded(directory) as store:
        acknowledged: dict[int, int] = {}
        stopping = threading.Event()

        def write(writer: int) -> None:
            count = 0
            with client_of(store.address) as client:
                while not stopping.is_set():
                    try:
                        with translated():
                            count = client.incr(f"writer-{writer}")
                    except StoreError:
                        continue
                    acknowledged[writer] = count

        writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for writer in writers:
            writer.start()
        try:
            for death in range(3):
                seen = dict(acknowledged)
                wait_until(lambda seen=seen: all(acknowledged.get(n, 0) > seen.get(n, 0) + 200 for n in range(2)))
                killed_s = time.monotonic()
                kill_store(store)
                wait_until(lambda death=death: store.restart_count == death + 1 and store.is_up)
                assert time.monotonic() - killed_s < 5.0
        finally:
            stopping.set()
            for writer in writers:
                writer.join()
        with client_of(store.address) as client:
            for number in range(2):
                # One more may have been done whose answer was lost; never one less, for each counts from the last.
                assert int(client.get(f"writer-{number}")) >= acknowledged[number]


def test_every_second_leaves_no_acknowledged_write_in_the_store_s_memory(directory: Path) -> None:
    """Valkey's own `everysec` does, while a sync is under way; so the kernel must have each write at its answer."""
    with embedded(directory) as store, client_of(store.address) as client:
        assert read_facts(client).aof_fsync == "no"
        for number in range(50):
            client.set("key", f"value-{number}")
            [*_, newest] = data_files(store.directory)
            assert f"value-{number}".encode() in newest.read_bytes()[-40:]


def test_every_second_syncs_what_was_written(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fdatasync = os.fdatasync

    def recording(descriptor: int) -> None:
        fdatasync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", recording)
    with embedded(directory) as store, client_of(store.address) as client:
        client.set("key", "value")
        written = data_files(store.directory)[-1].stat().st_size
        at_s = time.monotonic()
        wait_until(lambda: written in synced)
        assert time.monotonic() - at_s < 2.0


def test_a_power_failure_takes_at_most_the_last_two_seconds(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced_bytes: dict[int, int] = {}  # by inode
    fdatasync = os.fdatasync

    def recording(descriptor: int) -> None:
        status = os.fstat(descriptor)
        fdatasync(descriptor)
        synced_bytes[status.st_ino] = status.st_size

    monkeypatch.setattr(os, "fdatasync", recording)
    acknowledged_s: list[float] = []
    with embedded(directory) as store, client_of(store.address) as client:
        began_s = time.monotonic()
        while time.monotonic() - began_s < 3.0:
            client.rpush("list", len(acknowledged_s))
            acknowledged_s.append(time.monotonic())
        failed_s = time.monotonic()
        on_disk = {path: synced_bytes.get(path.stat().st_ino) for path in data_files(store.directory)}
        kill_store(store)
    for path, size in on_disk.items():
        if size is not None:
            os.truncate(path, size)
    with embedded(directory) as store, client_of(store.address) as client:
        kept = client.llen("list")
    assert 0 < kept < len(acknowledged_s)  # it was a failure that takes something
    assert kept >= sum(at_s < failed_s - 2.0 for at_s in acknowledged_s)


@pytest.mark.parametrize(("durability", "synced_count"), [(Durability.ALWAYS, 1), (Durability.EVERY_SECOND, 0)])
def test_always_means_that_an_answer_comes_after_the_sync(
    directory: Path, durability: Durability, synced_count: int
) -> None:
    with embedded(directory, durability=durability) as store, client_of(store.address) as client:
        for number in range(20):
            client.set("key", number)
            assert client.execute_command("WAITAOF", 1, 0, 1)[0] == synced_count


def test_a_truncated_tail_is_cut_off_and_the_rest_is_kept(directory: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        client.set("whole", "yes")
        client.set("cut", "yes")
    newest = data_files(StoreDirectory(directory))[-1]
    os.truncate(newest, newest.stat().st_size - 5)
    with embedded(directory) as store, client_of(store.address) as client:
        assert client.get("whole") == b"yes"
        assert client.get("cut") is None


def test_a_damaged_file_is_an_error_that_names_it(directory: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        for number in range(100):
            client.set(f"key-{number}", "value")
    newest = data_files(StoreDirectory(directory))[-1]
    content = bytearray(newest.read_bytes())
    content[500:520] = b"\xff" * 20
    newest.write_bytes(content)
    with embedded(directory, wait=False) as store, pytest.raises(StoreUnfit, match=newest.name):
        store.until_up(20.0)
    assert newest.read_bytes() == content  # nothing was repaired in secret


def test_a_full_store_refuses_and_keeps_what_it_has(directory: Path) -> None:
    with embedded(directory, memory_mb_max=8) as store, client_of(store.address) as client:
        with suppress(valkey_errors.OutOfMemoryError):
            for number in range(100):
                client.set(f"key-{number}", b"x" * 1_000_000)
        with pytest.raises(StoreFull), translated():
            client.set("one-more", b"x" * 1_000_000)
        assert client.exists("key-0", "key-1") == 2
        pipe = client.pipeline(transaction=False)
        pipe.set("another", b"x" * 1_000_000)
        with pytest.raises(StoreFull), translated():
            pipe.execute()
        script = client.register_script("return redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])")
        with pytest.raises(StoreFull), translated():
            script(keys=["stream"], args=[b"x" * 1_000_000])
        client.delete("key-0", "key-1", "key-2")  # what makes room is not refused
        client.set("another", b"x" * 1_000_000)


def test_a_store_whose_disk_is_nearly_full_refuses_before_it_is(directory: Path) -> None:
    with embedded(directory, disk_reserve_mb=10**9) as store, client_of(store.address) as client:
        assert store.disk_full
        with pytest.raises(StoreFull), translated():
            client.set("key", "value")
        assert client.get("key") is None
