"""Item ids ↔ rows: round trips, collisions, and stored forms that contradict themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import item_ids
from index.item_ids import (
    ITEM_ID_SIZE_BYTES_MAX,
    ItemIdDuplicate,
    ItemIdInvalid,
    ItemIds,
    ItemIdsCorrupt,
    ItemRowUnknown,
)

any_id = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
distinct_ids = st.lists(any_id, unique=True, max_size=60)


@pytest.fixture
def colliding_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hash values for all ids."""
    monkeypatch.setattr(item_ids, "hash_item_id", lambda encoded: len(encoded) % 3)


@given(ids=distinct_ids, others=st.lists(any_id, max_size=20))
def test_every_id_has_its_row_and_every_row_its_id(ids: list[str], others: list[str]) -> None:
    table = ItemIds.from_ids(ids)
    read_back = ItemIds.from_bytes(table.to_bytes())
    for items in (table, read_back):
        assert len(items) == len(ids)
        assert items.rows(ids).tolist() == list(range(len(ids)))
        assert items.ids(range(len(ids))) == ids
        expected = [ids.index(other) if other in ids else -1 for other in others]
        assert items.rows(others).tolist() == expected
    assert read_back.to_bytes() == table.to_bytes()


@settings(suppress_health_check=[])
@given(ids=distinct_ids, others=st.lists(any_id, max_size=20))
def test_collisions_never_give_a_wrong_row(ids: list[str], others: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_ids, "hash_item_id", lambda encoded: len(encoded) % 3)
        table = ItemIds.from_ids(ids)
        assert table.rows(ids).tolist() == list(range(len(ids)))
        assert table.rows(others).tolist() == [ids.index(other) if other in ids else -1 for other in others]


def test_rows_are_int32_and_keep_the_order_asked() -> None:
    rows = ItemIds.from_ids(["b", "a", "Ä"]).rows(["Ä", "c", "b", "b", ""])
    assert rows.dtype == np.int32
    assert rows.tolist() == [2, -1, 0, 0, -1]


def test_a_lone_surrogate_is_just_unknown() -> None:
    assert ItemIds.from_ids(["a"]).rows(["\ud800"]).tolist() == [-1]


def test_no_items_know_no_ids() -> None:
    table = ItemIds.from_bytes(ItemIds.from_ids([]).to_bytes())
    assert (len(table), table.rows(["a"]).tolist(), table.ids([])) == (0, [-1], [])


@pytest.mark.usefixtures("colliding_hash")
def test_a_duplicate_among_collisions_is_named() -> None:
    with pytest.raises(ItemIdDuplicate, match="'bbb' occurs twice, in rows 1 and 3"):
        ItemIds.from_ids(["aaa", "bbb", "ccc", "bbb"])


def test_a_duplicate_is_named_with_both_rows() -> None:
    with pytest.raises(ItemIdDuplicate, match="'7' occurs twice, in rows 7 and 50"):
        ItemIds.from_ids([*map(str, range(50)), "7"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [("", "row 1 is empty"), ("x" * (ITEM_ID_SIZE_BYTES_MAX + 1), "has 1025 bytes"), ("\ud800", "not valid Unicode")],
)
def test_an_id_that_cannot_be_kept_is_named(bad: str, message: str) -> None:
    with pytest.raises(ItemIdInvalid, match=message):
        ItemIds.from_ids(["good", bad])


@pytest.mark.parametrize("row", [-1, 2, 10**9])
def test_a_row_without_item_is_refused(row: int) -> None:
    with pytest.raises(ItemRowUnknown, match=f"row {row} is outside the 2 known items"):
        ItemIds.from_ids(["a", "b"]).ids([0, row])


def test_opened_from_a_file(tmp_path: Path) -> None:
    ids = [f"item {number}" for number in range(1000)]
    path = tmp_path / "item_ids"
    path.write_bytes(ItemIds.from_ids(ids).to_bytes())
    assert ItemIds.open(path).ids(ItemIds.open(path).rows(ids)) == ids


@pytest.mark.parametrize("size_bytes", [0, 10])
def test_a_file_too_short_is_refused(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "item_ids"
    path.write_bytes(b"\0" * size_bytes)
    with pytest.raises(ItemIdsCorrupt, match=f"{size_bytes} bytes, too short"):
        ItemIds.open(path)


STORED = ItemIds.from_ids(["one", "two", "three", "fünf"]).to_bytes()


@given(at=st.integers(0, len(STORED) - 1), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(at: int, value: int) -> None:
    """The checksum finds the change before; without it, too, no lookup may leave the arrays or fail to decode."""
    changed = bytearray(STORED)
    changed[at] = value
    try:
        table = ItemIds.from_bytes(bytes(changed))
    except ItemIdsCorrupt:
        return
    assert all(-1 <= row < 4 for row in table.rows(["one", "two", "three", "fünf", "six"]).tolist())
    assert len(table.ids(range(4))) == 4


@given(cut=st.integers(0, len(STORED) - 1))
def test_a_truncated_form_is_refused(cut: int) -> None:
    with pytest.raises(ItemIdsCorrupt):
        ItemIds.from_bytes(STORED[:cut])


def test_an_id_that_begins_inside_a_character_is_refused() -> None:
    offsets = np.array([0, 1, 2], np.uint64)
    with pytest.raises(ItemIdsCorrupt, match="inside a character"):
        ItemIds(memoryview("ü".encode()), offsets, np.array([1, 2], np.uint64), np.array([0, 1], np.int32))
