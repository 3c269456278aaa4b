"""Folding in: the vector is the exact solution of the shopper's normal equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.towers.sources.small_logs import random_log, source_request
from towers.sources.base import SourceInvalid
from towers.sources.fits.shoppers import all_histories
from towers.sources.folded_factors import FoldedFactors, FoldIn, folded
from towers.sources.profiles import Profiles
from towers.sources.settings import ProfileSettings


def plain(counts: bool = False, **profile: float) -> FoldIn:
    return FoldIn(2.0, counts, ProfileSettings.model_validate(profile))


def random_source(dimension: int, item_count: int = 40) -> FoldedFactors:
    random = np.random.default_rng(dimension)
    items = random.normal(size=(item_count, dimension)).astype(np.float32)
    gram = items.T @ items + 0.1 * np.eye(dimension, dtype=np.float32)
    return FoldedFactors(items, gram.astype(np.float32), plain())


def test_one_dimension_by_hand() -> None:
    """Items 1 and 2, λ 1: (1 + 4 + 1 + 3·2²) q = (1 + 3)·2."""
    own = Profiles(np.array([0, 1, 1]), np.array([1], np.int32), np.array([3], np.float32))
    vectors = folded(own, np.array([[1], [2]], np.float32), np.array([[6]], np.float32))
    assert vectors.tolist() == [[pytest.approx(8 / 18)], [0]]


@pytest.mark.parametrize("dimension", [1, 2, 7, 64, 128])
def test_the_vectors_are_those_of_a_dense_solver(dimension: int) -> None:
    source, log = random_source(dimension), random_log(3, 30, 40, 90)
    own = source.fold_in.own(all_histories(log), 40)
    found = folded(own, source.items, source.gram)
    for user in range(30):
        mine = slice(own.offsets[user], own.offsets[user + 1])
        items, c = source.items[own.item_row[mine]].astype(np.float64), own.weight[mine].astype(np.float64)
        wanted = np.linalg.solve(source.gram + (items * c[:, None]).T @ items, items.T @ (1 + c))
        np.testing.assert_allclose(found[user], wanted, rtol=1e-4, atol=1e-5)


def test_the_newest_event_of_an_item_gives_its_confidence() -> None:
    own = plain(half_life_days=10).own(source_request([[(4, 20), (1, 20), (4, 10)]]).histories, 40)
    assert own.item_row.tolist() == [4, 1]
    assert own.weight.tolist() == [1.0, 0.5]  # 2 · 1/2, 2 · 1/4


def test_with_counts_every_event_adds_by_its_age() -> None:
    request = source_request([[(4, 30), (4, 20), (1, 20), (4, 10)], [(4, 10), (99, 5)], []])
    own = plain(counts=True, half_life_days=10).own(request.histories, 40)
    assert own.item_row.tolist() == [4, 1, 4]
    assert own.weight.tolist() == [2 * (1 / 2 + 1 / 4 + 1 / 8), 2 * 1 / 4, 2 * 1 / 2]
    ageless = plain(counts=True).own(request.histories, 40)
    assert ageless.weight.tolist() == [6, 2, 2]


def test_items_beyond_the_newest_are_not_read() -> None:
    own = plain(counts=True, items_max=1).own(source_request([[(4, 30), (1, 20)]]).histories, 40)
    assert (own.item_row.tolist(), own.weight.tolist()) == ([1], [2.0])


def test_somebody_without_items_is_given_nothing() -> None:
    scores = np.zeros((2, 3), np.float32)
    asked = random_source(4).ask(source_request([[], [(5, 1)]]))
    asked.write_scores(np.array([[1, 2, 3]] * 2, np.int32), scores)
    assert not scores[0].any()
    assert scores[1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gram": np.eye(3, dtype=np.float32)}, "array gram has shape"),
        ({"gram": -np.eye(4, dtype=np.float32)}, "not positive definite"),
        ({"items": np.full((40, 4), np.nan, np.float32)}, "no number"),
        ({"fold_in": np.array([40, 0, 0, 200, 0, 0], np.float64)}, "the confidence 0"),
        ({"fold_in": np.array([40, 1, 0, 0, 0, 0], np.float64)}, "array profile"),
        ({"fold_in": np.array([39, 1, 0, 200, 0, 0], np.float64)}, "is for 39 items"),
        ({"items": np.zeros((40, 129), np.float32), "gram": np.eye(129, dtype=np.float32)}, "129 numbers"),
    ],
)
def test_arrays_that_are_no_source_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(SourceInvalid, match=message):
        FoldedFactors.from_arrays({**random_source(4).arrays(), **change})


def test_arrays_give_the_same_source() -> None:
    source = replace(random_source(4), fold_in=plain(counts=True, half_life_items=3))
    again = FoldedFactors.from_arrays(source.arrays())
    assert again.fold_in == source.fold_in
    assert np.array_equal(again.items, source.items)


def test_another_order_gives_the_same_answers() -> None:
    source = random_source(4, 5)
    order = np.array([4, 7, 0, 2, 1, 3], np.int32)  # row 7 is new
    place = np.array([2, 4, 3, 5, 0], np.int32)
    before, after = np.zeros((1, 5), np.float32), np.zeros((1, 5), np.float32)
    rows = np.arange(5, dtype=np.int32)
    source.ask(source_request([[(1, 2), (3, 1)]])).write_scores(rows[None], before)
    source.reordered(order, place).ask(source_request([[(4, 2), (5, 1)]])).write_scores(place[rows][None], after)
    np.testing.assert_array_equal(before, after)
