"""The snapshot: rows in the generation's order, events up to its moment, and arrays that fit each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from towers.candidates import ItemTable, code_counts
from towers.features.histories import Histories
from towers.features.items import ItemArrays
from towers.learning_data import Encoders, LearningData, UserTable
from towers.models.ranker import Ranker, RankerShape
from towers.snapshot import Snapshot, SnapshotInvalid, take_snapshot
from towers.sources.item_lists import ItemLists
from towers.sources.settings import ProfileSettings

PURCHASE = 1
BRAND_AND_COLOUR = np.array([[7, 1], [8, 2], [9, 3], [10, 4], [11, 5]], np.int32)


def table() -> ItemTable:
    """Five items, of which rows 1, 3 and 4 may be recommended; 4 is the most popular."""
    return ItemTable(
        vectors=np.arange(10, dtype=np.float32).reshape(5, 2),
        statistics=np.arange(5, dtype=np.float32)[:, None] * 10,
        affinity=BRAND_AND_COLOUR,
        affinity_counts=code_counts(BRAND_AND_COLOUR),
        popular=np.array([4, 1, 3], np.int32),
        retrievable=np.array([False, True, False, True, True]),
    )


def learning_data() -> LearningData:
    """Two users: the first did three things at 10, 20 and 30, the second one thing at 15."""
    nothing = np.zeros((5, 0), np.int32)
    return LearningData(
        encoders=Encoders(items=None, user_attributes={}, contexts={}, event_types=(), target_event_types=()),  # type: ignore[arg-type]
        items=ItemArrays(np.zeros(5, np.int32), nothing, nothing.astype(np.float32), nothing),
        users=UserTable(np.array([3, 0], np.int32), np.array([[1], [2]], np.int32)),
        histories=Histories.from_events(
            np.array([0, 0, 0, 1], np.int32),
            np.array([0, 1, 4, 3], np.int32),
            np.array([0, PURCHASE, PURCHASE, 0], np.uint8),
            np.array([10, 20, 30, 15]),
            user_count=2,
            target_types=(PURCHASE,),
        ),
        context=np.zeros((4, 0), np.int32),
    )


def ranker() -> Ranker:
    torch.manual_seed(0)
    return Ranker(RankerShape(request=2, item=3, pair=1, hidden=(4, 2)))


def taken(until_s: int = 30) -> Snapshot:
    return take_snapshot(learning_data(), table(), ranker(), until_s)[0]


def test_items_that_may_be_recommended_come_first_and_keep_their_order() -> None:
    snapshot, order = take_snapshot(learning_data(), table(), ranker(), 30)
    assert order.tolist() == [1, 3, 4, 0, 2]
    assert snapshot.retrievable_count == 3
    items = snapshot.items
    assert items.vectors.tolist() == [[2, 3], [6, 7], [8, 9], [0, 1], [4, 5]]
    assert items.statistics[:, 0].tolist() == [10, 30, 40, 0, 20]
    assert items.affinity.tolist() == [[8, 2], [10, 4], [11, 5], [7, 1], [9, 3]]
    assert items.affinity_counts.tolist() == [12, 6]
    assert items.retrievable.tolist() == [True, True, True, False, False]
    assert items.popular.tolist() == [2, 0, 1]  # the same items by their new rows


def test_histories_name_the_new_rows_and_end_before_the_moment() -> None:
    log = taken(30).histories
    assert log.offsets.tolist() == [0, 2, 3]
    assert log.item_row.tolist() == [3, 0, 1]
    assert log.time_s.tolist() == [10, 20, 15]
    assert log.event_type.tolist() == [0, PURCHASE, 0]
    assert log.target_types == (PURCHASE,)
    assert taken(31).histories.item_row.tolist() == [3, 0, 2, 1]
    assert taken(10).histories.offsets.tolist() == [0, 0, 0]


def test_the_ranker_s_share_of_each_item_is_computed_from_its_row() -> None:
    snapshot = taken()
    inputs = torch.tensor([[2.0, 3.0, 10.0], [6.0, 7.0, 30.0], [8.0, 9.0, 40.0], [0.0, 1.0, 0.0], [4.0, 5.0, 20.0]])
    with torch.inference_mode():
        expected = ranker().item_part(inputs).numpy()
    np.testing.assert_allclose(snapshot.item_part, expected, rtol=1e-6)


def test_arrays_there_and_back() -> None:
    snapshot = taken()
    again = Snapshot.from_arrays(snapshot.item_arrays(), snapshot.user_arrays(), (PURCHASE,), ("brand", "colour"))
    for name, array in snapshot.item_arrays().items():
        np.testing.assert_array_equal(again.item_arrays()[name], array)
    for name, array in snapshot.user_arrays().items():
        np.testing.assert_array_equal(again.user_arrays()[name], array)
    assert again.items.affinity_counts.tolist() == [12, 6]
    assert again.histories.target_types == (PURCHASE,)


def test_spare_rows_stand_behind_the_items_and_belong_to_none_of_them() -> None:
    snapshot = taken()
    arrays = snapshot.item_arrays(spare_row_count=3)
    again = Snapshot.from_arrays(arrays, snapshot.user_arrays(), (PURCHASE,), ("brand", "colour"), (40, 2))
    assert (again.item_count, len(again.items.vectors), again.retrievable_count) == (5, 8, snapshot.retrievable_count)
    assert not again.items.retrievable[5:].any()
    assert not again.items.vectors[5:].any()
    np.testing.assert_array_equal(again.items.vectors[:5], snapshot.items.vectors)
    assert again.items.affinity_counts.tolist() == [40, 6]  # a new item may have any value that the model knows
    users = {**snapshot.user_arrays(), "item_row": np.array([0, 5, 1], np.int32)}
    with pytest.raises(SnapshotInvalid, match="array item_row"):  # of a spare row nobody has a history
        Snapshot.from_arrays(arrays, users, (PURCHASE,), ("brand", "colour"))
    for wrong in (-1, 9):
        with pytest.raises(SnapshotInvalid, match="array spare_row_count"):
            Snapshot.from_arrays(
                {**arrays, "spare_row_count": np.array([wrong])}, users, (PURCHASE,), ("brand", "colour")
            )


def test_a_shop_without_users_events_or_affinities_has_a_snapshot_too() -> None:
    data = learning_data()
    empty = np.zeros(0, np.int32)
    nobody = replace(
        data,
        users=UserTable(empty, np.zeros((0, 0), np.int32)),
        histories=Histories.from_events(empty, empty, empty.astype(np.uint8), empty.astype(np.int64), 0, (PURCHASE,)),
    )
    items = replace(
        table(),
        affinity=np.zeros((5, 0), np.int32),
        affinity_counts=np.zeros(0, np.int64),
        popular=empty,
        retrievable=np.zeros(5, np.bool_),
    )
    snapshot, order = take_snapshot(nobody, items, ranker(), 30)
    again = Snapshot.from_arrays(snapshot.item_arrays(), snapshot.user_arrays(), (PURCHASE,), ())
    assert order.tolist() == [0, 1, 2, 3, 4]
    assert again.retrievable_count == again.histories.user_count == 0


@pytest.mark.parametrize(
    ("array", "values"),
    [
        ("vectors", np.zeros((5, 2), np.float64)),
        ("vectors", np.zeros(5, np.float32)),
        ("statistics", np.zeros((4, 1), np.float32)),
        ("retrievable", np.ones(4, np.bool_)),
        ("retrievable", np.array([True, False, True, True, False])),
        ("popular", np.array([0, 3], np.int32)),
        ("popular", np.array([-1], np.int32)),
        ("item_part", np.zeros((6, 4), np.float32)),
        ("affinity", np.zeros((6, 2), np.int32)),
        ("affinity", np.full((5, 2), -1, np.int32)),
        ("affinity", np.zeros((5, 2), np.int64)),
        ("affinity", np.zeros(5, np.int32)),
        ("affinity", np.zeros((5, 3), np.int32)),
        ("offsets", np.zeros(0, np.int64)),
        ("offsets", np.array([0, 3, 2, 3])),
        ("offsets", np.array([1, 2, 3])),
        ("offsets", np.array([0, 1, 2])),
        ("item_row", np.array([0, 5, 1], np.int32)),
        ("item_row", np.array([0, -1, 1], np.int32)),
        ("event_type", np.zeros(2, np.uint8)),
        ("time_s", np.zeros(4, np.int64)),
        ("bucket", np.zeros(3, np.int32)),
        ("attribute", np.zeros((1, 1), np.int32)),
        ("attribute", np.zeros(2, np.int32)),
    ],
)
def test_arrays_that_contradict_each_other_are_refused_by_name(array: str, values: Any) -> None:
    items, users = taken().item_arrays(), taken().user_arrays()
    file = "items.safetensors" if array in items else "users.safetensors"
    (items if array in items else users)[array] = values
    with pytest.raises(SnapshotInvalid, match=f"{file}: array {array}"):
        Snapshot.from_arrays(items, users, (PURCHASE,), ("brand", "colour"))


def test_a_file_whose_affinity_columns_do_not_fit_the_model_is_refused() -> None:
    arrays = taken().item_arrays()
    for attributes in ((), ("brand",), ("brand", "colour", "size")):
        with pytest.raises(SnapshotInvalid, match=f"array affinity has 2 columns; the model reads {len(attributes)} "):
            Snapshot.from_arrays(arrays, taken().user_arrays(), (PURCHASE,), attributes)
    del arrays["affinity"]
    with pytest.raises(SnapshotInvalid, match="array affinity is missing"):
        Snapshot.from_arrays(arrays, taken().user_arrays(), (PURCHASE,), ("brand", "colour"))


def test_sources_there_and_back_and_none_of_other_items() -> None:
    snapshot = taken()
    for count, fits in ((snapshot.item_count, True), (snapshot.item_count + 1, False)):
        lists = ItemLists.of_top(np.full((count, 1), 0, np.int32), np.ones((count, 1), np.float32), ProfileSettings())
        arrays = {f"item_item/{name}": array for name, array in lists.arrays().items()}
        parts = (snapshot.item_arrays(3), snapshot.user_arrays(), (PURCHASE,), ("brand", "colour"), (), arrays)
        if fits:
            assert Snapshot.from_arrays(*parts).items.sources.keys() == {"item_item"}
        else:
            with pytest.raises(SnapshotInvalid, match=r"sources\.safetensors: source item_item is of"):
                Snapshot.from_arrays(*parts)
