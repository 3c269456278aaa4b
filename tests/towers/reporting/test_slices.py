import numpy as np
import polars as pl
import pytest

from towers.evaluation import EvaluationSet
from towers.reporting.slices import (
    Slicing,
    by_history_length,
    by_item_attribute,
    by_novelty,
    by_popularity,
    by_user_attribute,
    measure,
    popularity_deciles,
)

OURS = np.array([[0, 5], [5, 1], [4, 5]])
THEIRS = np.array([[5, 0], [5, 1], [5, 0]])
SECOND = 1 / np.log2(3)


def test_history_lengths_fall_into_groups_of_about_equal_size() -> None:
    slicing = by_history_length(np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 1_000]))
    assert slicing.groups == ("1 to 2", "3 to 4", "5 to 6", "7 to 8", "9 to 1,000")
    assert np.bincount(slicing.group_of).tolist() == [2, 2, 2, 2, 2]


def test_equal_histories_are_one_group() -> None:
    slicing = by_history_length(np.array([3, 3, 3]))
    assert slicing.group_of.tolist() == [0, 0, 0]
    assert slicing.groups == ("3",)


def test_values_are_ordered_by_frequency_and_rare_ones_share_a_group() -> None:
    many = [f"v{place:02d}" for place in range(14)] + ["v13", "v13"]
    slicing = by_user_attribute("city", pl.Series(many))
    assert slicing.groups[:3] == ("v13", "v00", "v01")
    assert slicing.groups[-1] == "all others"
    assert len(slicing.groups) == 13
    assert np.bincount(slicing.group_of).tolist() == [3] + [1] * 11 + [2]


def test_numbers_are_cut_into_quartiles() -> None:
    slicing = by_user_attribute("age", pl.Series([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, float("nan")]))
    assert slicing.groups == ("1 to 2", "3 to 4", "5 to 6", "7 to 8")
    assert slicing.group_of.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, -1]
    nothing = by_user_attribute("age", pl.Series([float("nan")] * 2))
    assert nothing.groups == ()


def test_tenths_of_popularity_begin_with_the_most_popular_candidates() -> None:
    users = np.array([5, 9, 1, 2, 3, 99])
    deciles = popularity_deciles(np.arange(5, dtype=np.int32), users)
    assert deciles.tolist() == [2, 0, 8, 6, 4, -1]  # five items: every second tenth is empty; item 5 is no candidate


def test_a_slice_of_users_averages_over_them(asked: EvaluationSet) -> None:
    slicing = by_user_attribute("city", pl.Series(["Bern", "Basel", "Bern"]))
    bern, basel = measure(slicing, asked, OURS, THEIRS, 2)
    assert (bern["group"], bern["users"], bern["purchases"]) == ("Bern", 2, 4)
    assert (basel["group"], basel["users"], basel["purchases"]) == ("Basel", 1, 1)
    ideal = 1 + SECOND
    assert bern["ndcg@2"] == pytest.approx(1 / ideal)  # a hit in place 1 for both users
    assert bern["recall@2"] == pytest.approx(0.5)
    assert bern["baseline_ndcg@2"] == pytest.approx(SECOND / ideal / 2)  # place 2 for one, nothing for the other
    assert bern["lead"] == pytest.approx(bern["ndcg@2"] - bern["baseline_ndcg@2"])
    assert basel["ndcg@2"] == pytest.approx(SECOND)
    assert basel["few"]


def test_a_slice_of_items_counts_only_its_items_as_right(asked: EvaluationSet) -> None:
    again, new = measure(by_novelty(asked), asked, OURS, THEIRS, 2)
    assert (again["group"], again["users"], again["purchases"]) == ("bought again", 1, 1)  # item 0 of user 0
    assert (again["ndcg@2"], again["recall@2"]) == (1.0, 1.0)
    assert again["baseline_ndcg@2"] == pytest.approx(SECOND)
    # new: item 3 of user 0 (missed), item 1 of user 1 (place 2), items 2 and 4 of user 2 (one in place 1)
    assert (new["users"], new["purchases"]) == (3, 4)
    assert new["recall@2"] == pytest.approx((0 + 1 + 0.5) / 3)
    assert new["ndcg@2"] == pytest.approx((0 + SECOND + 1 / (1 + SECOND)) / 3)


def test_items_are_sliced_by_their_attribute(asked: EvaluationSet) -> None:
    slicing = by_item_attribute(asked, "department", pl.Series(["a", "b", "b", "b", "a", "c"]))
    assert slicing.groups == ("b", "a")  # three purchases of b, two of a; nobody bought c
    b, a = measure(slicing, asked, OURS, THEIRS, 2)
    assert (b["users"], b["purchases"], b["recall@2"]) == (3, 3, pytest.approx(1 / 3))
    assert (a["users"], a["purchases"], a["recall@2"]) == (2, 2, 1.0)


def test_an_empty_slice_is_said(asked: EvaluationSet) -> None:
    tenths = measure(by_popularity(asked, np.array([5, 9, 1, 2, 3, 99])), asked, OURS, THEIRS, 2)
    assert [row["users"] for row in tenths] == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert tenths[1] == {"group": "2. tenth", "users": 0, "purchases": 0, "note": "nobody"}
    nobody = Slicing("x", "users", ("empty",), np.full(3, -1))
    assert measure(nobody, asked, OURS, THEIRS, 2)[0]["note"] == "nobody"
