"""Ids of the generation and ids that came later, looked up alike."""

from __future__ import annotations

import numpy as np
import pytest

from index.item_ids import ItemIds, ItemRowUnknown, hash_item_id
from server.catalogue.live_ids import LiveItemIds

UNKNOWN = "never heard of"


def hashes(*ids: str) -> np.ndarray:
    return np.array([hash_item_id(item_id.encode()) for item_id in ids], np.uint64)


@pytest.fixture
def ids() -> LiveItemIds:
    return LiveItemIds(ItemIds.from_ids(["tent", "stove", "Gurtzeug äöü"]))


def test_without_new_ids_it_answers_as_the_generation_does(ids: LiveItemIds) -> None:
    assert len(ids) == 3
    assert ids.rows(["stove", UNKNOWN]).tolist() == [1, -1]
    assert ids.ids(np.array([2, 0])) == ["Gurtzeug äöü", "tent"]
    assert ids.rows_of_hashes(hashes("tent", UNKNOWN, "Gurtzeug äöü")).tolist() == [0, -1, 2]


def test_new_ids_stand_behind_the_others(ids: LiveItemIds) -> None:
    assert [ids.add("rope"), ids.add("lamp")] == [3, 4]
    assert len(ids) == 5
    assert ids.rows(["lamp", "tent", UNKNOWN, "rope"]).tolist() == [4, 0, -1, 3]
    assert ids.ids([4, 0, 3]) == ["lamp", "tent", "rope"]
    assert ids.ids([1, 2]) == ["stove", "Gurtzeug äöü"]
    assert ids.rows_of_hashes(hashes("rope", "stove", UNKNOWN)).tolist() == [3, 1, -1]


def test_no_row_is_made_up(ids: LiveItemIds) -> None:
    ids.add("rope")
    for row in (-1, 4):
        with pytest.raises(ItemRowUnknown):
            ids.ids([3, row])


def test_no_item_has_the_hash_that_stands_for_none(ids: LiveItemIds) -> None:
    ids.add("rope")
    assert ids.rows_of_hashes(np.zeros(2, np.uint64)).tolist() == [-1, -1]
    assert ids.rows_of_hashes(np.zeros(0, np.uint64)).tolist() == []


def test_a_generation_without_items_takes_new_ones() -> None:
    ids = LiveItemIds(ItemIds.from_ids([]))
    assert ids.rows_of_hashes(hashes("rope")).tolist() == [-1]
    ids.add("rope")
    assert (ids.rows(["rope"]).tolist(), ids.ids([0])) == ([0], ["rope"])
    assert ids.rows_of_hashes(hashes("rope")).tolist() == [0]
