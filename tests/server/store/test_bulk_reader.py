"""Many values at once: what a real store holds, across its deaths, and no answer to an earlier question."""

from __future__ import annotations

from pathlib import Path

import pytest
from valkey import exceptions as valkey_errors

from server.store.address import StoreAddress
from server.store.bulk_reader import BulkReader
from server.store.connection import connect
from tests.server.store_process import StoreProcess


def test_values_come_in_the_order_of_their_keys() -> None:
    with StoreProcess() as store:
        store.client.set("ä", b"1\r\n2")
        store.client.set("big", bytes(300_000))
        store.client.sadd("of another kind", "x")
        reader = BulkReader(connect(store.address, timeout_s=5.0))
        for _ in range(2):
            assert reader.get(["ä".encode(), b"none", b"big", b"of another kind"]) == [
                b"1\r\n2", None, bytes(300_000), None,
            ]  # fmt: skip


def test_a_store_that_was_restarted_meanwhile_is_asked_on_a_new_connection() -> None:
    with StoreProcess() as store:
        store.client.set("a", "1")
        reader = BulkReader(connect(store.address, timeout_s=5.0))
        assert reader.get([b"a"]) == [b"1"]
        store.stop()
        store.start()
        assert reader.get([b"a"]) == [b"1"]
        store.stop()
        for _ in range(2):
            with pytest.raises(valkey_errors.ConnectionError):
                reader.get([b"a"])
        store.start()
        assert reader.get([b"a"]) == [b"1"]


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one() -> None:
    with StoreProcess() as store:
        store.client.mset({"a": "1", "b": "2"})
        reader = BulkReader(connect(store.address, timeout_s=0.3))
        assert reader.get([b"a"]) == [b"1"]
        store.client.client_pause(1_000, all=True)
        with pytest.raises(valkey_errors.TimeoutError):
            reader.get([b"a"])
        store.client.client_unpause()
        assert reader.get([b"b"]) == [b"2"]


def test_a_refusal_leaves_the_reader_as_it_was() -> None:
    with StoreProcess() as store:
        store.client.set("a", "1")
        reader = BulkReader(connect(store.address, timeout_s=5.0))
        assert reader.get([b"a"]) == [b"1"]
        store.client.acl_setuser("default", enabled=True, nopass=True, commands=["-mget"], keys=["*"])
        with pytest.raises(valkey_errors.NoPermissionError):
            reader.get([b"a"])
        store.client.acl_setuser("default", enabled=True, nopass=True, commands=["+mget"], keys=["*"])
        assert reader.get([b"a"]) == [b"1"]


def test_nobody_at_the_address(tmp_path: Path) -> None:
    with pytest.raises(valkey_errors.ConnectionError):
        BulkReader(connect(StoreAddress(f"unix://{tmp_path}/none.sock"), timeout_s=0.1)).get([b"a"])
