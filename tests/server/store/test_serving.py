"""The store beside real server processes: started by nobody else, adopted after kill -9, stopped after the workers."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import pytest

from index.generation import set_current
from server.config import ConfigError, ServerConfig
from server.lifecycle import Server
from server.store.address import StoreAddress
from server.store.keeper import StoreKeeper, default_directory
from server.store.layout import StoreDirectory
from server.workers.worker import Assignment
from tests.server.conftest import make_config, publish
from tests.server.fake_engine import FAKE_LOADING, load_fake
from tests.server.pool_process import alive, pool_process
from tests.server.store.stores import client_of, end_living, wait_until
from tests.server.waiting import until_in_thread

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
UP = ("twinrank_store_up", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "generations"
    set_current(path, publish(path))
    return path


def test_a_killed_supervisor_s_store_is_adopted_by_the_next_and_ends_with_it(tmp_path: Path, root: Path) -> None:
    directory = tmp_path / "store"
    assert not directory.exists()
    try:
        with pool_process(tmp_path, root, 2, store="embedded") as first:
            until_in_thread(lambda: first.metrics()[UP] == 1)
            assert first.said("store started")
            pid = first.said("store up")[0]["pid"]
            address = StoreDirectory(directory).address
            with client_of(address) as client:
                client.set("acknowledged", "yes")
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait(20)
        assert alive(pid)
        with pool_process(tmp_path, root, 2, store="embedded") as second:
            until_in_thread(lambda: second.metrics()[UP] == 1)
            assert second.said("living store found")
            assert second.said("store up")[0]["pid"] == pid
            with client_of(address) as client:
                assert client.get("acknowledged") == b"yes"
            killed_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            until_in_thread(lambda: second.metrics()["twinrank_store_restarts_total", ""] == 1)
            until_in_thread(lambda: second.metrics()[UP] == 1)
            assert time.monotonic() - killed_s < 5.0
            assert second.answering_pids(1)
            with client_of(address) as client:
                assert client.get("acknowledged") == b"yes"
            pid = second.said("store up")[-1]["pid"]
        assert not alive(pid)
        events = [line["event"] for line in second.lines]
        assert events.index("store stopped") > max(i for i, event in enumerate(events) if event == "worker ended")
    finally:
        end_living(directory)


def test_one_process_runs_its_store_too_and_stops_it(tmp_path: Path, root: Path) -> None:
    with pool_process(tmp_path, root, 0, store="embedded") as running:
        until_in_thread(lambda: running.metrics()[UP] == 1)
        pid = running.said("store up")[0]["pid"]
    assert running.process.returncode == 0
    assert not alive(pid)


def test_workers_are_told_where_the_store_is(tmp_path: Path) -> None:
    config = ServerConfig(generations={"root": tmp_path / "generations"})
    keeper = StoreKeeper(config)
    assignment = Assignment(1, config, FAKE_LOADING.loader, "", keeper.address)
    assert pickle.loads(pickle.dumps(assignment)).store == keeper.address
    assert str(tmp_path / "store") in str(keeper.address)


async def test_a_server_knows_its_store_or_that_there_is_none(root: Path) -> None:
    address = StoreAddress("unix:///somewhere")
    assert Server(make_config(root), load_fake, store=address).store == address
    assert Server(make_config(root), load_fake).store is None


def test_off_means_no_store_no_directory_and_no_metrics(tmp_path: Path) -> None:
    config = ServerConfig(generations={"root": tmp_path / "generations"}, store={"mode": "off"})
    keeper = StoreKeeper(config)
    keeper.start()
    keeper.refuse_unfit()
    assert keeper.address is None
    assert list(keeper.collect()) == []
    keeper.stop()
    assert not default_directory(config).exists()


def test_a_directory_that_cannot_be_had_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"store\.directory"):
        StoreKeeper(ServerConfig(store={"directory": tmp_path / "file" / "store"}))


def test_the_operations_page_names_the_store_s_metrics(tmp_path: Path) -> None:
    keeper = StoreKeeper(ServerConfig(generations={"root": tmp_path / "generations"}))
    page = OPERATIONS.read_text(encoding="utf-8")
    names = [metric.name + "_total" * (metric.type == "counter") for metric in keeper.collect()]
    assert len(names) == 5
    assert [name for name in names if f"`{name}`" not in page] == []


def test_a_keeper_that_is_stopped_at_once_leaves_nothing(tmp_path: Path) -> None:
    config = ServerConfig(generations={"root": tmp_path / "generations"})
    keeper = StoreKeeper(config)
    keeper.start()
    keeper.stop()
    wait_until(lambda: not StoreDirectory(default_directory(config)).is_held("living"))
