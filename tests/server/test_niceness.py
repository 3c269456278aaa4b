"""Threads that interrupt nobody when they wake: those of the name, no others."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.front_native import IO_THREAD_NAME
from server.niceness import wake_without_interrupting
from tests.contract.calls import ask
from tests.server.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there has a thread a policy of its own")


def policies(name: str) -> list[int]:
    """The scheduling policies of this process's threads of that name."""
    threads = [thread for thread in Path("/proc/self/task").iterdir() if (thread / "comm").read_text().strip() == name]
    return [os.sched_getscheduler(int(thread.name)) for thread in threads]


def test_threads_of_that_name_alone_wait_for_their_turn() -> None:
    named, done = threading.Event(), threading.Event()

    def run() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("of-a-library")
        named.set()
        done.wait()

    thread = threading.Thread(target=run)
    thread.start()
    named.wait()
    before = os.sched_getscheduler(threading.get_native_id())
    wake_without_interrupting("of-a-library")
    found = policies("of-a-library")
    done.set()
    thread.join()
    assert found == [os.SCHED_BATCH]
    assert os.sched_getscheduler(threading.get_native_id()) == before


async def test_the_native_front_has_the_librarys_thread_wait_for_its_turn(start: Callable[..., Any]) -> None:
    running = await start(listen={"port": 0, "front": "native"})
    await ask(running, "u1", timeout=5.0)
    await until(lambda: os.SCHED_BATCH in policies(IO_THREAD_NAME))
