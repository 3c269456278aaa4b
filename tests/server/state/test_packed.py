"""The packed state: what is written is what is read, and nothing else is taken for a state."""

from __future__ import annotations

import numpy as np
import pytest

from index.item_ids import ItemIds
from server.state.keys import shard, user_key, visitor_key
from server.state.packed import HEADER, RECORD, VERSION, StateInvalid, item_hash, unpack
from tests.server.state.states import Did, packed

BOUGHT = Did("a", "purchase", 100, 1_000.0, quantity=2.0, session_id="s")
SEEN = Did("b", "view", 200, 2_000.0)


def test_states_are_read_side_by_side() -> None:
    found = unpack([packed([BOUGHT], [SEEN], ids=[7, 8], last_ms=2_000.0), None, packed(purged_ms=5.0), b""])
    assert found.offsets.tolist() == [0, 2, 2, 2, 2]
    assert found.last_ms.tolist() == [2_000.0, 0, 0, 0]
    assert found.purged_ms.tolist() == [0, 0, 5.0, 0]
    assert found.events["item_hash"].tolist() == [item_hash("a"), item_hash("b")]
    assert found.events["time_s"].tolist() == [100, 200]
    assert found.events["quantity"].tolist() == [2.0, 1.0]
    assert found.events["position_ms"].tolist() == [1_000.0, 2_000.0]


def test_a_full_section_begins_with_its_oldest_event() -> None:
    three = [Did(name, "view", time_s, 1.0) for name, time_s in (("d", 400), ("b", 200), ("c", 300))]
    value = packed([BOUGHT], three)
    turned = HEADER.pack(VERSION, 0, 1, 3, 1.0, 0.0, 0, 1, 4, 0) + value[HEADER.size :]
    assert unpack([value, turned]).events["time_s"].tolist() == [100, 400, 200, 300, 100, 200, 300, 400]


def test_room_that_holds_nothing_yet_is_no_event() -> None:
    value = packed([BOUGHT, BOUGHT], [SEEN, SEEN], ids=[1])
    half = HEADER.pack(VERSION, 1, 2, 2, 1.0, 0.0, 0, 1, 0, 0) + value[HEADER.size :]
    assert unpack([half]).events["time_s"].tolist() == [100]


def test_nobody_has_no_state() -> None:
    found = unpack([])
    assert len(found) == 0
    assert found.offsets.tolist() == [0]


@pytest.mark.parametrize(
    "value",
    [
        packed([BOUGHT])[:-1],
        packed([BOUGHT]) + b"x",
        packed([BOUGHT])[: HEADER.size - 1],
        b"\x09" + packed([BOUGHT])[1:],
        packed(ids=[1])[: HEADER.size],
    ],
)
def test_what_is_no_state_is_refused(value: bytes) -> None:
    with pytest.raises(StateInvalid, match="bytes"):
        unpack([None, value])


def test_an_item_is_hashed_as_in_the_generation() -> None:
    ids = ItemIds.from_ids(["a", "ü", "42"])
    hashes = np.array([item_hash(item_id) for item_id in ("42", "zz", "ü", "a", "")], np.uint64)
    assert ids.rows_of_hashes(hashes).tolist() == [2, -1, 1, 0, -1]
    assert ItemIds.from_ids([]).rows_of_hashes(hashes).tolist() == [-1] * 5


def test_a_person_s_keys_name_their_shard() -> None:
    assert user_key("ann") == f"tr:{{{shard('ann'):02}}}:u:ann"
    assert visitor_key("ann") == f"tr:{{{shard('ann'):02}}}:v:ann"
    assert {shard(str(number)) for number in range(2_000)} == set(range(64))


def test_a_record_is_32_bytes() -> None:
    assert (HEADER.size, RECORD.size) == (32, 32)
