"""States out of a real store: found, missing, down, back again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey

from server.domain import RecommendQuery, SimilarItemsQuery, StateGap
from server.events.purge_list import Purge, write_purges
from server.state.keys import user_key, visitor_key
from server.state.known_purges import KnownPurges
from server.state.reader import SILENCE_S, StateReader
from server.store.address import StoreAddress
from server.store.connection import connect
from tests.server.real_engine import recommend
from tests.server.state.states import Did, packed
from tests.server.store_process import StoreProcess


@pytest.fixture(scope="module")
def store() -> Iterator[StoreProcess]:
    with StoreProcess() as process:
        yield process


@pytest.fixture
def connection(store: StoreProcess) -> valkey.Valkey:
    client = connect(store.address, timeout_s=1.0)
    client.flushall()
    return client


def reader_of(connection: valkey.Valkey) -> StateReader:
    return StateReader(connection, KnownPurges(connection))


def ask(user_id: str = "", visitor_id: str = "", position_ms: float = 0.0) -> RecommendQuery:
    return recommend(user_id, visitor_id=visitor_id, position_ms=position_ms)


def test_a_query_has_the_events_of_its_user_and_of_its_visitor(connection: valkey.Valkey) -> None:
    connection.set(user_key("ann"), packed([Did("a", "purchase", 100, 1.0)], last_ms=1.0))
    connection.set(visitor_key("cookie"), packed(signals=[Did("b", "view", 200, 2.0)], last_ms=2.0))
    queries = [ask("ann", "cookie"), SimilarItemsQuery("a", 5), ask(), ask("bob"), ask("", "cookie"), ask("ann")]
    found = reader_of(connection).read(queries)
    assert found.offsets.tolist() == [0, 2, 2, 2, 2, 3, 4]
    assert found.events["time_s"].tolist() == [200, 100, 200, 100]
    assert not found.gaps.any()


def test_a_later_position_than_the_state_s_is_a_gap(connection: valkey.Valkey) -> None:
    connection.set(user_key("ann"), packed(last_ms=10.0))
    asked = [ask("ann", position_ms=10.0), ask("ann", position_ms=11.0), ask("bob", position_ms=1.0), ask("bob")]
    gaps = reader_of(connection).read(asked).gaps
    assert gaps.tolist() == [0, StateGap.BEHIND_POSITION, StateGap.BEHIND_POSITION, 0]


def test_nobody_to_look_up_asks_nothing(tmp_path: Path) -> None:
    nowhere = connect(StoreAddress(f"unix://{tmp_path}/none.sock"), timeout_s=0.1)
    assert not reader_of(nowhere).read([ask(), SimilarItemsQuery("a", 5)]).gaps.any()


def test_without_a_store_everybody_who_is_named_has_a_gap_and_it_is_tried_again_after_a_while() -> None:
    clock = [0.0]
    late = StoreProcess()
    connection = connect(late.address, timeout_s=0.5)
    reader = StateReader(connection, KnownPurges(connection), clock=lambda: clock[0])
    assert reader.read([ask("ann"), ask()]).gaps.tolist() == [StateGap.UNAVAILABLE, StateGap.NONE]
    with late:
        late.client.set(user_key("ann"), packed([Did("a", "purchase", 100, 1.0)]))
        assert reader.read([ask("ann")]).gaps.tolist() == [StateGap.UNAVAILABLE]
        assert reader.failure_count == 1  # it was not even asked
        clock[0] = SILENCE_S
        assert len(reader.read([ask("ann")]).events) == 1


def test_a_value_that_is_no_state_is_a_gap_and_no_crash(connection: valkey.Valkey) -> None:
    connection.set(user_key("ann"), b"nonsense")
    assert reader_of(connection).read([ask("ann")]).gaps.tolist() == [StateGap.UNAVAILABLE]


def test_who_was_purged_is_known_while_the_store_is_down(connection: valkey.Valkey, tmp_path: Path) -> None:
    write_purges(connection, [Purge("u:ann", 5.0, 1.0), Purge("v:cookie", 6.0, 0.0)])
    purges = KnownPurges(connection)
    purges.read_again()
    purges.heard("u:bob", b'{"purged_ms": 7.0, "first_ms": 1}', "1-0")
    nowhere = connect(StoreAddress(f"unix://{tmp_path}/none.sock"), timeout_s=0.1)
    queries = [ask("ann"), ask("ann", "cookie"), ask("carl"), SimilarItemsQuery("a", 5), ask("bob"), ask()]
    assert StateReader(nowhere, purges).read(queries).purged_ms.tolist() == [5.0, 6.0, 0.0, 0.0, 7.0, 0.0]
