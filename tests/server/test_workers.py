"""Several worker processes on one port: real processes, killed, drained, rolled, and asked as one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from twinrank_client import Client, RecommendRequest

from index.generation import GenerationWriter, set_current
from tests.server.fake_engine import SLOW
from tests.server.pool_process import (
    ASKING_S,
    PoolProcess,
    alive,
    answering_pid,
    mapped_libraries,
    parent_of,
    pool_process,
    which,
)
from tests.server.waiting import until_in_thread

WORKER_COUNT = 3
REPLACED_WITHIN_S = 2.0
OK = ("twinrank_requests_total", "OK,Recommend")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")


def publish(root: Path, **metadata: str) -> str:
    with GenerationWriter(root) as writer:
        writer.add_bytes("nothing", b"nothing")
        return writer.publish(metadata)


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool") / "generations"
    set_current(root, publish(root))
    return root


@pytest.fixture(scope="module")
def pool(shared_root: Path) -> Iterator[PoolProcess]:
    """One pool for the tests that leave it as whole as they found it."""
    with pool_process(shared_root.parent, shared_root, WORKER_COUNT) as running:
        yield running


@pytest.fixture
def whole(pool: PoolProcess) -> PoolProcess:
    until_in_thread(lambda: pool.metrics()["twinrank_workers_ready", ""] == WORKER_COUNT)
    return pool


def test_every_worker_answers_on_the_one_port(whole: PoolProcess) -> None:
    assert whole.answering_pids(WORKER_COUNT) == set(whole.forked_pids[-WORKER_COUNT:])


def test_metrics_and_status_speak_for_all_workers(whole: PoolProcess) -> None:
    before = whole.metrics().get(OK, 0.0)
    with ThreadPoolExecutor(4) as threads:
        answering = set(threads.map(lambda _: which(whole.target), range(40)))
    assert len(answering) > 1
    after = whole.metrics()
    assert after[OK] - before == 40
    assert after["twinrank_workers", "listening"] == after["twinrank_workers_wanted", ""] == WORKER_COUNT
    status = whole.admin_status()
    assert status.answered_count >= after[OK]
    assert after["twinrank_generation_info", status.generation_id] == 1
    assert not status.draining


def test_the_forkserver_has_torch_and_faiss_and_never_had_grpc(whole: PoolProcess) -> None:
    assert {(line["preloaded"], line["grpc_before_fork"]) for line in whole.said("worker forked")} == {(True, False)}
    worker = whole.forked_pids[-1]
    forkserver = parent_of(worker)
    assert parent_of(forkserver) == whole.process.pid
    for library in ("libtorch", "faiss", "numpy"):
        assert library in mapped_libraries(forkserver)
    assert "cygrpc" not in mapped_libraries(forkserver)
    assert "cygrpc" in mapped_libraries(worker)


def test_a_killed_worker_is_replaced_while_the_others_answer_on(whole: PoolProcess) -> None:
    counted = whole.metrics()[OK]
    asked = 0
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(whole.target, timeout_s=ASKING_S)) for _ in range(8)]
        serving = [answering_pid(client) for client in clients]
        victim = serving[0]
        unhurt = [client for client, pid in zip(clients, serving, strict=True) if pid != victim]
        assert unhurt
        os.kill(victim, signal.SIGKILL)
        killed_s = time.monotonic()

        def is_whole() -> bool:
            nonlocal asked
            assert victim not in map(answering_pid, unhurt)  # a failure would raise
            asked += len(unhurt)
            return whole.metrics()["twinrank_workers_ready", ""] == WORKER_COUNT and bool(whole.said("worker crashed"))

        until_in_thread(is_whole)
        assert time.monotonic() - killed_s < REPLACED_WITHIN_S
        assert answering_pid(clients[0]) != victim
    samples = whole.metrics()
    assert samples["twinrank_worker_crashes_total", ""] == 1
    assert samples[OK] >= counted + asked  # the counts of the one that died are kept


def test_a_publication_reaches_all_workers_and_a_replacement_never_serves_less(
    whole: PoolProcess, shared_root: Path
) -> None:
    good = publish(shared_root, name="good")
    set_current(shared_root, good)
    set_s = time.monotonic()
    until_in_thread(lambda: whole.admin_status().generation_id == good)
    assert time.monotonic() - set_s < 2.0
    bad = publish(shared_root, refuse="it does not fit")
    set_current(shared_root, bad)
    until_in_thread(lambda: whole.admin_status().refused_generation_id == bad)
    started = len(whole.forked_pids)
    os.kill(whole.forked_pids[-1], signal.SIGKILL)
    until_in_thread(
        lambda: len(whole.forked_pids) > started and whole.metrics()["twinrank_workers_ready", ""] == WORKER_COUNT
    )
    info = {labels for name, labels in whole.metrics() if name == "twinrank_generation_info"}
    assert info == {good}


def test_a_rolling_restart_replaces_every_worker_and_fails_no_call(whole: PoolProcess) -> None:
    old = set(whole.forked_pids[-WORKER_COUNT:])
    done = threading.Event()

    def ask_on_and_on() -> int:
        answered = 0
        with Client(whole.target, timeout_s=ASKING_S) as client:
            while not done.is_set():
                client.recommend(RecommendRequest(user_id="u1"))
                answered += 1
        return answered

    with ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(ask_on_and_on) for _ in range(3)]
        try:
            whole.process.send_signal(signal.SIGHUP)
            until_in_thread(lambda: whole.said("rolling restart done"))
        finally:
            done.set()
        assert all(future.result() > 0 for future in asking)
    assert not any(map(alive, old))
    assert len(whole.answering_pids(WORKER_COUNT) - old) == WORKER_COUNT


def test_workers_that_lose_their_forkserver_are_replaced_before_they_go(tmp_path: Path, root: Path) -> None:
    with pool_process(tmp_path, root, 2, drain_s=4.0) as pool:
        old = set(pool.forked_pids)
        os.kill(parent_of(pool.forked_pids[0]), signal.SIGKILL)
        until_in_thread(lambda: pool.metrics()["twinrank_workers", "draining"] == 2)

        def replaced() -> bool:
            which(pool.target)
            return pool.metrics()["twinrank_workers_ready", ""] == 2

        until_in_thread(replaced)
        until_in_thread(lambda: not any(map(alive, old)))
        assert pool.metrics()["twinrank_worker_crashes_total", ""] == 0


def test_workers_end_with_their_supervisor(tmp_path: Path, root: Path) -> None:
    with pool_process(tmp_path, root, 2) as pool:
        workers = pool.forked_pids
        forkserver = parent_of(workers[0])
        pool.process.kill()
        until_in_thread(lambda: not any(map(alive, [*workers, forkserver])))


def test_a_termination_fails_nothing_in_flight(tmp_path: Path, root: Path) -> None:
    call_count = 8
    with pool_process(tmp_path, root, 2) as pool, ThreadPoolExecutor(call_count) as threads:

        def ask_slowly(_: int) -> int:
            with Client(pool.target, timeout_s=ASKING_S) as client:
                return len(client.recommend(RecommendRequest(user_id=SLOW)).items)

        def begun_count() -> float:
            samples = pool.metrics()
            return samples["twinrank_in_flight", ""] + samples.get(OK, 0.0)

        answers = threads.map(ask_slowly, range(call_count))
        until_in_thread(lambda: begun_count() == call_count)
        pool.process.send_signal(signal.SIGTERM)
        assert list(answers) == [20] * call_count
        assert pool.process.wait(20) == 0
        assert pool.said("stopped")[-1]["answered_count"] == call_count
