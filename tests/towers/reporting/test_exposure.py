import numpy as np
import pytest

from towers.evaluation import EvaluationSet
from towers.reporting.exposure import (
    demand,
    describe,
    exposure_of_items,
    exposure_quality,
    gini,
    intra_list_cosine_distance,
    intra_list_distance,
    self_information,
    shares_by_decile,
)

LISTS = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1]])
SECOND = 1 / np.log2(3)
ITEM_USERS = np.array([8, 4, 2, 1, 0, 16])


def test_exposure_is_the_sum_of_the_discounts_of_the_places() -> None:
    np.testing.assert_allclose(exposure_of_items(LISTS, 6, 2), [2.0, SECOND, 0, SECOND, 0, 0])
    np.testing.assert_allclose(exposure_of_items(LISTS, 6, 3), [2.0, SECOND, 0.5, SECOND, 0, 0])


def test_gini_of_even_total_and_known_spreads() -> None:
    assert gini(np.ones(4)) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 0, 7.0])) == pytest.approx(3 / 4)
    values = np.array([1.0, 3.0, 2.0])
    pairs = np.abs(values[:, None] - values[None, :]).sum() / (2 * 3**2 * 2.0)  # mean absolute difference / (2 · mean)
    assert gini(values) == pytest.approx(pairs)
    assert np.isnan(gini(np.zeros(3)))
    assert np.isnan(gini(np.zeros(0)))


def test_shares_are_of_what_the_candidates_have() -> None:
    shares = shares_by_decile(np.array([3.0, 1.0, 100.0]), np.array([0, 9, -1]))
    assert shares == [0.75, 0, 0, 0, 0, 0, 0, 0, 0, 0.25]
    assert np.isnan(shares_by_decile(np.zeros(3), np.array([0, 9, -1]))).all()


def test_diversity_is_the_mean_share_of_differing_attributes_over_pairs() -> None:
    codes = np.array([[0, 0], [0, 1], [1, 1], [0, 0], [0, 0], [0, 0]])
    # items 0 1: one of two differs, 0 2: both, 1 2: one → mean (.5 + 1 + .5) / 3; items 0 3: equal; no pair: nothing
    found = intra_list_distance(LISTS, codes, 3)
    np.testing.assert_allclose(found, [2 / 3, 0.0, np.nan])
    np.testing.assert_allclose(intra_list_distance(LISTS, codes, 2), [0.5, 0.0, np.nan])
    assert np.isnan(intra_list_distance(LISTS, codes, 1)).all()


def test_diversity_by_vectors_is_one_minus_the_mean_cosine() -> None:
    half = np.sqrt(0.5)
    vectors = np.array([[1, 0], [0, 1], [half, half], [-1, 0], [1, 0], [1, 0]], np.float32)
    found = intra_list_cosine_distance(LISTS, vectors, 3)
    np.testing.assert_allclose(found, [1 - (0 + half + half) / 3, 2.0, np.nan], atol=1e-6)


def test_novelty_is_the_mean_self_information_in_bits() -> None:
    found = self_information(LISTS, ITEM_USERS, 16, 3)  # 1, 2, 3 bits; 1 and 4 bits
    np.testing.assert_allclose(found, [2.0, 2.5, np.nan])
    assert self_information(np.array([[4]]), ITEM_USERS, 16, 1)[0] == 4.0  # nobody had it: as if one had


def test_exposure_quality_is_the_share_of_places_that_hit_by_weight(asked: EvaluationSet) -> None:
    # user 0 bought 0 and 3, user 1 item 1, user 2 items 2 and 4
    found = exposure_quality(np.array([[0, 5, 3], [5, 1, 0], [5, -1, -1]]), asked, 3)
    total = 1 + SECOND + 0.5
    np.testing.assert_allclose(found, [1.5 / total, SECOND / total, 0.0])


def test_lists_and_demand_are_described_alike(asked: EvaluationSet) -> None:
    shown = describe(LISTS, asked, ITEM_USERS, 16, 2)
    weights = np.array([2.0, SECOND, 0, SECOND, 0])  # of the five candidates, most popular first
    assert shown["gini@2"] == pytest.approx(gini(weights))
    shares = weights / weights.sum()
    assert shown["exposure_by_decile@2"][::2] == pytest.approx(shares.tolist())
    assert shown["known_by@2"] == pytest.approx((shares * ITEM_USERS[:5]).sum() / 16)
    bought = demand(asked, ITEM_USERS, 16)  # items 0 to 4 once each
    assert bought["gini"] == pytest.approx(0.0)
    assert bought["by_decile"][::2] == pytest.approx([0.2] * 5)
    assert bought["known_by"] == pytest.approx((8 + 4 + 2 + 1 + 0) / 5 / 16)


def test_empty_lists_have_no_exposure(asked: EvaluationSet) -> None:
    nothing = describe(np.full((3, 2), -1), asked, ITEM_USERS, 16, 2)
    assert np.isnan(nothing["gini@2"])
    assert np.isnan(nothing["known_by@2"])
