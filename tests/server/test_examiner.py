"""The supervisor's examiner among real processes: each generation is examined once, and a fault in it stays there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.generation import GenerationWriter, set_current
from index.generation.seal import FileMark
from tests.server.conftest import publish
from tests.server.pool_process import PoolProcess, pool_process, which
from tests.server.waiting import until_in_thread

WORKER_COUNT = 2

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")


def settled(path: Path) -> bool:
    with path.open("rb") as file:
        return FileMark.of(file.fileno()).settled


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examiner") / "generations"
    generation_id = publish(root)
    set_current(root, generation_id)
    until_in_thread(lambda: settled(root / generation_id / "nothing"))
    return root


@pytest.fixture(scope="module")
def pool(shared_root: Path) -> Iterator[PoolProcess]:
    with pool_process(shared_root.parent, shared_root, WORKER_COUNT) as running:
        yield running


def examined(pool: PoolProcess, generation_id: str) -> int:
    return sum(line["generation_id"] == generation_id for line in pool.said("generation examined"))


def told(pool: PoolProcess, generation_id: str) -> list[tuple[bool, list[str]]]:
    """What each worker that asked was told."""
    lines = [line for line in pool.said("asked") if line["generation_id"] == generation_id]
    return [(line["fits"], line["sealed"]) for line in lines]


def test_workers_and_their_replacements_hear_of_one_examination(pool: PoolProcess) -> None:
    generation_id = pool.admin_status().generation_id
    assert told(pool, generation_id) == [(True, ["nothing"])] * WORKER_COUNT
    os.kill(pool.forked_pids[-1], signal.SIGKILL)
    until_in_thread(lambda: len(told(pool, generation_id)) == WORKER_COUNT + 1)
    assert told(pool, generation_id)[-1] == (True, ["nothing"])
    assert examined(pool, generation_id) == 1
    until_in_thread(lambda: pool.metrics()["twinrank_workers_ready", ""] == WORKER_COUNT)


def test_a_publication_is_examined_once(pool: PoolProcess, shared_root: Path) -> None:
    generation_id = publish(shared_root, name="second")
    set_current(shared_root, generation_id)
    until_in_thread(lambda: pool.admin_status().generation_id == generation_id)
    assert [fits for fits, _ in told(pool, generation_id)] == [True] * WORKER_COUNT
    assert examined(pool, generation_id) == 1


def test_a_generation_that_faults_its_trial_is_refused_and_hurts_no_worker(
    pool: PoolProcess, shared_root: Path
) -> None:
    serving_id = pool.admin_status().generation_id
    workers = pool.answering_pids(WORKER_COUNT)
    before = pool.metrics()
    bad_id = publish(shared_root, crash="a parser that runs off its buffer")
    set_current(shared_root, bad_id)
    refusals = ("twinrank_generations_refused_total", "")
    until_in_thread(lambda: pool.metrics()[refusals] == before[refusals] + WORKER_COUNT)
    status = pool.admin_status()
    assert status.refused_generation_id == bad_id
    assert "ended with SIGSEGV" in status.refused_reason
    assert status.generation_id == serving_id
    crashes = ("twinrank_worker_crashes_total", "")
    assert pool.metrics()[crashes] == before[crashes]
    assert pool.answering_pids(WORKER_COUNT) == workers


def test_what_does_not_verify_or_does_not_fit_is_named_by_the_workers_themselves(
    pool: PoolProcess, shared_root: Path
) -> None:
    damaged_id = publish(shared_root, name="damaged")
    (shared_root / damaged_id / "nothing").write_bytes(b"nothinG")
    unfit_id = publish(shared_root, refuse="dimension 32, expected 64")
    for generation_id, reason in ((damaged_id, "nothing has SHA-256"), (unfit_id, "dimension 32, expected 64")):
        set_current(shared_root, generation_id)
        until_in_thread(lambda wanted=generation_id: pool.admin_status().refused_generation_id == wanted)  # type: ignore[misc]
        assert reason in pool.admin_status().refused_reason
        assert {fits for fits, _ in told(pool, generation_id)} == {False}
    which(pool.target)


def test_workers_start_when_there_is_nothing_to_examine_yet(tmp_path: Path) -> None:
    root = tmp_path / "generations"
    with pool_process(tmp_path, root, WORKER_COUNT) as pool:
        assert pool.listening["generation_id"] == ""
        with GenerationWriter(root) as writer:
            writer.add_bytes("nothing", b"nothing")
            generation_id = writer.publish({})
        set_current(root, generation_id)
        until_in_thread(lambda: pool.admin_status().generation_id == generation_id)
        assert examined(pool, generation_id) == 1
