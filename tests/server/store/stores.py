"""Embedded stores for tests: real Valkey in a temporary directory, ended whatever happens to the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from server.config import Durability, StoreConfig
from server.store.address import StoreAddress
from server.store.connection import connect, read_facts
from server.store.embedded import EmbeddedStore
from server.store.errors import StoreError
from server.store.layout import StoreDirectory

PATIENCE_S = 20.0


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for the condition, looking again and again; a store that is down counts as not yet."""
    give_up_at_s = time.monotonic() + PATIENCE_S
    while True:
        with suppress(StoreError):
            if condition():
                return
        assert time.monotonic() < give_up_at_s, "the condition never came true"
        time.sleep(0.005)


@contextmanager
def embedded(directory: Path, *, disk_reserve_mb: int = 1, wait: bool = True, **config: Any) -> Iterator[EmbeddedStore]:
    """A store that is up when this enters, and stopped after it."""
    store = EmbeddedStore(StoreConfig(**config), directory, disk_reserve_mb=disk_reserve_mb)
    store.start()
    try:
        if wait:
            store.until_up(PATIENCE_S)
        yield store
    finally:
        store.stop()


@contextmanager
def client_of(address: StoreAddress) -> Iterator[Any]:
    """A client, closed at the end."""
    client: Any = connect(address, timeout_s=PATIENCE_S)
    try:
        yield client
    finally:
        client.close()


def left_living(directory: Path, durability: Durability = Durability.EVERY_SECOND) -> int:
    """Starts a store in a process of its own, kills that process without warning, and returns the store's pid."""
    command = [sys.executable, "-m", "tests.server.store.owning", str(directory), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout is not None
        try:
            line = next(line for line in iter(owner.stdout.readline, b"") if line.startswith(b"pid "))
        finally:
            owner.kill()
    return int(line.split()[1])


def kill_store(store: EmbeddedStore) -> int:
    """kill -9 to the store's process; its pid."""
    pid = store.pid
    assert pid > 1
    os.kill(pid, signal.SIGKILL)
    return pid


def run_id(address: StoreAddress) -> str:
    """Another one after each start of the store."""
    with client_of(address) as client:
        return read_facts(client).run_id


def end_living(directory: Path) -> None:
    """Whatever store still lives there ends, so that no test leaves a process behind."""
    if directory.is_dir() and StoreDirectory(directory).is_held("living"):
        with embedded(directory):
            pass
