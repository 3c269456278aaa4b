"""The embedded store lives through kills, belongs to one server at a time, and loses nothing that it acknowledged."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from server.store.connection import read_facts
from server.store.embedded import StoreState
from server.store.errors import StoreUnavailable, StoreUnfit
from server.store.layout import StoreDirectory
from server.store.process import server_binary
from server.store.syncing import data_files
from tests.server.pool_process import alive
from tests.server.store.stores import client_of, embedded, kill_store, left_living, run_id, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")


def pids_of_session(leader: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(path.parent.name))
    return found


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


def test_another_store_on_our_socket_is_not_taken_for_ours(directory: Path, tmp_path: Path) -> None:
    place = StoreDirectory(directory)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [str(server_binary()), "--port", "0", "--unixsocket", str(place.socket), "--save", ""]
    with subprocess.Popen(command, cwd=elsewhere, stdout=subprocess.DEVNULL) as other:
        living = place.lock("living")
        assert living is not None
        try:
            wait_until(place.socket.exists)
            with embedded(directory, wait=False) as store, client_of(place.address) as client:
                with pytest.raises(StoreUnfit, match="elsewhere"):
                    store.until_up(20.0)
                assert client.config_get("maxmemory")["maxmemory"] == "0"  # it was told nothing
                living.release()
                other.kill()
                other.wait()
                wait_until(lambda: store.is_up)
        finally:
            living.release()
            other.kill()


def test_a_store_killed_while_it_rewrites_its_file_comes_back_at_once_and_leaves_nothing(directory: Path) -> None:
    with embedded(directory) as store, client_of(store.address) as client:
        pipe = client.pipeline(transaction=False)
        for number in range(20_000):
            pipe.set(f"key-{number}", os.urandom(1_000))
        pipe.execute()
        client.bgrewriteaof()
        wait_until(lambda: list(directory.glob("temp-rewriteaof-*")))
        client.set("last", "yes")
        killed = kill_store(store)
        wait_until(lambda: store.restart_count == 1 and store.is_up)
        assert store.restart_count == 1
        assert client.get("last") == b"yes"
        assert client.dbsize() == 20_001
        assert not list(directory.glob("temp-*"))
        assert not [pid for pid in pids_of_session(killed) if alive(pid)]


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
            wait_until(lambda: guest.is_owner and guest.is_up and guest.pid)
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
