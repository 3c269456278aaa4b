"""The embedded store lives through kills, belongs to one server at a time, and loses nothing that it acknowledged."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from valkey import exceptions as valkey_errors

from server.config import Durability
from server.store.connection import read_facts
from server.store.embedded import StoreState
from server.store.errors import StoreError, StoreFull, StoreUnavailable, StoreUnfit, translated
from server.store.layout import StoreDirectory
from server.store.process import server_binary
from server.store.syncing import data_files
from tests.server.pool_process import alive
from tests.server.store.stores import client_of, embedded, kill_store, left_living, run_id, wait_until


def test_a_first_start_makes_a_private_directory_and_an_empty_store(directory: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        facts = read_facts(client)
        assert facts.key_count == 0
        assert facts.aof_enabled
        assert facts.eviction_policy == "noeviction"
        assert facts.memory_bytes_max == 4_096 * 1_048_576
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert client.config_get("port")["port"] == "0"  # nothing to reach over a network
        assert os.getsid(store.pid) == store.pid
        pid = store.pid
    assert not alive(pid)
    assert store.state is StoreState.DOWN


def test_what_was_written_is_there_after_a_stop_and_a_start(directory: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        client.set("kept", "yes")
    with embedded(directory) as store, client_of(store.address) as client:
        assert client.get("kept") == b"yes"


def test_a_store_left_by_a_killed_server_is_adopted_and_stopped_at_the_end(directory: Path) -> None:
    pid = left_living(directory)
    assert alive(pid)
    with embedded(directory) as store:
        assert store.pid == pid
        assert store.is_owner
        assert store.restart_count == 0
    assert not alive(pid)


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


def test_a_store_that_loads_its_file_is_awaited(directory: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        pipe = client.pipeline(transaction=False)
        for number in range(200):
            pipe.xadd("stream", {"e": b"x" * 2_000}, id=f"{number + 1}-0")
        pipe.execute()
    newest = data_files(StoreDirectory(directory))[-1]
    commands = newest.read_bytes().partition(b"*")  # as often as it takes for the loading to be seen
    setting = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n" * 1_000_000
    newest.write_bytes(b"".join(commands) + setting * 2)
    states = set()
    with embedded(directory, wait=False) as store:
        give_up_at_s = time.monotonic() + 60.0
        while not store.is_up:
            states.add(store.state)
            assert time.monotonic() < give_up_at_s
            time.sleep(0.005)
        assert StoreState.LOADING in states
        assert StoreState.DOWN not in states
        assert store.restart_count == 0
        with client_of(store.address) as client:
            assert client.xlen("stream") == 200


def test_a_killed_server_s_loading_store_is_adopted_and_never_doubled(directory: Path) -> None:
    pid = left_living(directory)
    os.kill(pid, signal.SIGSTOP)  # as one that is not yet at its socket
    try:
        with embedded(directory, wait=False) as store:
            with pytest.raises(StoreUnavailable):
                store.until_up(1.5)
            assert store.restart_count == 0
            os.kill(pid, signal.SIGCONT)
            store.until_up(20.0)
            assert store.pid == pid
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGCONT)


def test_a_store_that_hangs_is_killed_after_the_patience_and_another_started(directory: Path) -> None:
    with embedded(directory, load_patience_s=0.5) as store, client_of(store.address) as client:
        client.set("key", "value")
        pid = store.pid
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: store.restart_count == 1 and store.is_up)
        assert store.pid != pid
        assert client.get("key") == b"value"


def test_a_second_server_is_a_guest_and_takes_over_without_a_restart(directory: Path) -> None:
    with embedded(directory) as owner:
        first_run = run_id(owner.address)
        with embedded(directory) as guest:
            assert owner.is_owner
            assert not guest.is_owner
            assert guest.address == owner.address
            owner.stop()
            wait_until(lambda: guest.is_owner and guest.is_up)
            assert run_id(guest.address) == first_run
            pid = guest.pid
            assert alive(pid)
        assert not alive(pid)


def test_a_guest_that_leaves_does_not_stop_the_store(directory: Path) -> None:
    with embedded(directory) as owner:
        first_run = run_id(owner.address)
        with embedded(directory):
            pass
        assert run_id(owner.address) == first_run


def test_a_guest_starts_the_store_when_both_owner_and_store_were_killed(directory: Path) -> None:
    pid = left_living(directory)
    os.kill(pid, signal.SIGKILL)
    with embedded(directory) as store:
        assert store.pid != pid


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


def test_a_directory_whose_path_is_too_long_for_a_socket_works(tmp_path: Path) -> None:
    directory = tmp_path / ("long-" * 30) / "store"
    with embedded(directory) as store, client_of(store.address) as client:
        client.set("key", "value")
        assert len(os.fsencode(store.directory.socket)) <= 100
        assert StoreDirectory(directory).socket == store.directory.socket
        assert stat.S_IMODE(store.directory.socket.parent.stat().st_mode) == 0o700
    store.directory.socket.parent.rmdir()  # as a cleaner of temporary files does
    assert StoreDirectory(directory).socket == store.directory.socket
    store.directory.socket.parent.rmdir()


def test_the_binary_is_the_one_of_the_package() -> None:
    assert server_binary().name == "valkey-server"
