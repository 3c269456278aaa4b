"""The fits of item lists, each against its definition in dense numpy, and by hand where numbers are small."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.towers.sources.logs import items_of, log_of, random_log
from towers.sources.fits.bought_next import fit_bought_next
from towers.sources.fits.bought_together import fit_bought_together
from towers.sources.fits.content import fit_content
from towers.sources.fits.item_item import fit_item_item
from towers.sources.fits.top_pairs import PairScale, top_of_product
from towers.sources.item_lists import ItemLists
from towers.sources.log import SourceLog
from towers.sources.settings import (
    BoughtNextSettings,
    BoughtTogetherSettings,
    ContentSettings,
    ItemItemSettings,
)

PLAIN = {"shrinkage": 0.0, "asymmetry": 0.5}
UNSCALED = {"popularity_exponent": 0.0, "source_exponent": 0.0, "shrinkage": 0.0}


def dense(lists: ItemLists) -> np.ndarray:
    """(n, n) the weight of each column in each row's list."""
    matrix = np.zeros((lists.item_count, lists.item_count))
    for item in range(lists.item_count):
        span = slice(lists.offsets[item], lists.offsets[item + 1])
        assert len(np.unique(lists.rows[span])) == span.stop - span.start
        assert (np.diff(lists.weights[span]) <= 0).all()  # best first
        matrix[item, lists.rows[span]] = lists.weights[span]
    return matrix


def kept(matrix: np.ndarray, k: int) -> np.ndarray:
    """What a fit keeps of all worths (n, n): the k best above 0 of each row, without its diagonal."""
    matrix = np.where(np.eye(len(matrix), dtype=bool) | (matrix <= 1e-9), 0, matrix)
    for line in matrix:
        line[np.argsort(-line.astype(np.float32), kind="stable")[k:]] = 0
    return matrix


def counts_of(log: SourceLog) -> np.ndarray:
    """(U, n) events."""
    counts = np.zeros((log.user_count, log.item_count))
    np.add.at(counts, (log.user_row, log.item_row), 1)
    return counts


@pytest.mark.parametrize("k", [1, 3, 100])
def test_top_of_a_product_is_that_of_the_dense_one(k: int) -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(0, 3, (9, 6)) * (rng.random((9, 6)) < 0.5)  # zeros that are stored, and whole ties
    right, sides = rng.integers(0, 3, (6, 9)), rng.uniform(0.5, 2, (3, 9))
    stored = csr_matrix(left.astype(np.float32))
    stored.data[::3] = 0
    scale = PairScale(sides[0], sides[1], sides[2], 0.7)
    rows, worths = top_of_product(stored, csr_matrix(right.astype(np.float32)), k, scale)
    product = stored.toarray().astype(np.float64) @ right
    expected = (product - np.outer(sides[0], sides[0]) * (product > 0)) / (np.outer(sides[1], sides[2]) + 0.7)
    found = np.zeros((9, 9))
    for item in range(9):
        found[item, rows[item][rows[item] >= 0]] = worths[item][rows[item] >= 0]
        assert (worths[item][rows[item] < 0] == 0).all()
    np.testing.assert_allclose(found, kept(expected, k), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shrinkage", [0.0, 2.5])
def test_cosine_is_the_angle_of_the_columns(seed: int, shrinkage: float) -> None:
    log = random_log(seed)
    bought = (counts_of(log) > 0).astype(float)
    length = np.maximum(np.linalg.norm(bought, axis=0), 1)
    expected = bought.T @ bought / (np.outer(length, length) + shrinkage)
    found = fit_item_item(log, ItemItemSettings(neighbours=5, shrinkage=shrinkage, asymmetry=0.5, power=2))
    np.testing.assert_allclose(dense(found), kept(expected, 5) ** 2, rtol=1e-5)


def test_asymmetry_moves_the_denominator_to_the_own_item() -> None:
    # Item 0 has two users, item 1 eight, both share two: 2 / (2^a · 8^(1 − a)).
    log = log_of([(0, 0, 0), (1, 0, 0), *[(user, 0, 1) for user in range(8)]], 2)
    for asymmetry, forth, back in ((0.0, 2 / 8, 2 / 2), (0.5, 0.5, 0.5), (1.0, 2 / 2, 2 / 8)):
        found = dense(fit_item_item(log, ItemItemSettings(shrinkage=0, asymmetry=asymmetry)))
        np.testing.assert_allclose(found, [[0, forth], [back, 0]], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_pearson_is_the_correlation_of_the_columns_where_it_is_above_0(seed: int) -> None:
    log = random_log(seed)
    bought = (counts_of(log) > 0).astype(float)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.corrcoef(bought.T))
    expected *= bought.T @ bought > 0
    found = dense(fit_item_item(log, ItemItemSettings(similarity="pearson", **PLAIN)))
    np.testing.assert_allclose(found, kept(expected, 100), rtol=1e-4, atol=1e-7)


def test_tfidf_is_the_cosine_of_roots_times_how_rare_the_user() -> None:
    log = random_log(1)
    counts = counts_of(log)
    rarity = np.log(log.item_count / (1 + (counts > 0).sum(axis=1)))
    weighted = np.sqrt(counts) * np.maximum(rarity, 0)[:, None]
    length = np.linalg.norm(weighted, axis=0)
    expected = weighted.T @ weighted / np.maximum(np.outer(length, length), 1e-12)
    found = dense(fit_item_item(log, ItemItemSettings(similarity="tfidf", **PLAIN)))
    np.testing.assert_allclose(found, kept(expected, 100), rtol=1e-5)


def test_bm25_is_the_product_of_saturated_counts() -> None:
    log = random_log(2)
    counts = counts_of(log)
    rarity = np.log(log.item_count / (1 + (counts > 0).sum(axis=1)))
    norm = 1 - 0.6 + 0.6 * counts.sum(axis=0) / counts.sum(axis=0).mean()
    weighted = counts * 3 / (2 * norm + counts) * np.maximum(rarity, 0)[:, None]
    settings = ItemItemSettings(similarity="bm25", shrinkage=0, bm25_saturation=2, bm25_length_share=0.6)
    np.testing.assert_allclose(
        dense(fit_item_item(log, settings)), kept(weighted.T @ weighted, 100), rtol=1e-5, atol=1e-7
    )


def next_counts(log: SourceLog, settings: BoughtNextSettings) -> np.ndarray:
    """(n, n) by looking at every pair of events."""
    matrix = np.zeros((log.item_count, log.item_count))
    for a in range(len(log.user_row)):
        for b in range(len(log.user_row)):
            if a == b or log.user_row[a] != log.user_row[b]:
                continue
            mine = log.user_row == log.user_row[a]
            earlier, later = sorted((log.time_s[a], log.time_s[b]))
            apart = len(np.unique(log.time_s[mine & (log.time_s >= earlier) & (log.time_s <= later)])) - 1
            if apart <= settings.window:
                weight = max(apart, 1) ** -settings.distance_power
                if settings.distance_half_life:
                    weight *= 0.5 ** ((max(apart, 1) - 1) / settings.distance_half_life)
                weight *= settings.backward if log.time_s[b] < log.time_s[a] else 1
                matrix[log.item_row[a], log.item_row[b]] += weight
    return matrix


@pytest.mark.parametrize(
    "settings",
    [
        BoughtNextSettings(),
        BoughtNextSettings(window=1, neighbours=4),
        BoughtNextSettings(window=3, distance_power=0, distance_half_life=2, backward=0.3, shrinkage=1.5),
        BoughtNextSettings(popularity_exponent=1, source_exponent=0, power=0.5),
    ],
)
def test_directed_co_occurrence_is_that_of_all_pairs(settings: BoughtNextSettings) -> None:
    log = random_log(4)
    popularity = np.maximum(np.bincount(log.item_row, minlength=log.item_count), 1.0)
    scale = np.outer(popularity**settings.source_exponent, popularity**settings.popularity_exponent)
    expected = next_counts(log, settings) / (scale + settings.shrinkage)
    found = dense(fit_bought_next(log, settings))
    np.testing.assert_allclose(found, kept(expected, settings.neighbours) ** settings.power, rtol=1e-5)


def test_what_comes_after_follows_and_what_comes_before_does_not() -> None:
    # One user: 0, then a basket of 1 and 2, then 3. Nobody's events count with another's.
    log = log_of([(0, 1, 0), (0, 5, 1), (0, 5, 2), (0, 9, 3), (1, 2, 3)], 4)
    settings = BoughtNextSettings(window=2, distance_power=1, **UNSCALED)
    expected = [[0, 1, 1, 0.5], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(dense(fit_bought_next(log, settings)), expected)


def test_only_target_events_count_where_that_is_asked() -> None:
    log = log_of([(0, 1, 0), (0, 2, 1), (0, 3, 2)], 3, targets=[True, False, True])
    settings = BoughtNextSettings(events="target", **UNSCALED)
    np.testing.assert_allclose(dense(fit_bought_next(log, settings)), [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_lift_is_baskets_with_both_over_those_expected() -> None:
    # Four baskets: {0, 1}, {0, 1, 2} (item 1 twice), {0}, {2}. Item 0 in three, 1 in two, 2 in two.
    events = [(0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 1), (0, 2, 1), (0, 2, 2), (1, 1, 0), (2, 1, 2)]
    found = dense(fit_bought_together(log_of(events, 3), BoughtTogetherSettings(shrinkage=0.5)))
    expected = [[0, 2 / (1.5 + 0.5), 1 / (1.5 + 0.5)], [1, 0, 1 / (1 + 0.5)], [0.5, 1 / 1.5, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_same_day_of_two_users_is_two_baskets() -> None:
    log = log_of([(0, 1, 0), (1, 1, 1)], 2)
    assert len(fit_bought_together(log, BoughtTogetherSettings()).rows) == 0


def test_rare_values_and_words_make_items_alike() -> None:
    # Items 0 and 1 share a rare value; 0, 2 and 3 a common one; word 7 stands twice in item 4, and once in 1.
    items = items_of(
        5,
        attributes=[[1, 1], [1, 0], [2, 1], [0, 1], [0, 0]],
        words=[[0, 0], [7, 0], [0, 0], [0, 0], [7, 7]],
    )
    rare, single, common = math.log(5 / 2), math.log(5 / 1), math.log(5 / 3)
    first = math.hypot(rare, common)
    expected = np.zeros((5, 5))
    # Attributes of item 1 are half of it (so √½), its words the other half.
    expected[0, 1] = rare / first * math.sqrt(0.5)
    expected[0, 2] = common / first * common / math.hypot(single, common)
    expected[0, 3] = common / first
    expected[2, 3] = common / math.hypot(single, common)
    expected[1, 4] = math.sqrt(0.5)
    expected += expected.T
    found = dense(fit_content(log_of([(0, 0, 0)], 5, items=items), ContentSettings()))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_values_of_too_many_items_are_not_compared_by() -> None:
    items = items_of(4, attributes=[[1], [1], [1], [2]])
    log = log_of([(0, 0, 0)], 4, items=items)
    assert len(fit_content(log, ContentSettings(feature_items_max=2)).rows) == 0
    assert len(fit_content(log, ContentSettings(feature_items_max=3)).rows) == 6


def test_numbers_of_one_quantile_are_alike() -> None:
    items = items_of(4, numbers=[[0.1], [5.0], [0.2], [6.0]])
    log = log_of([(0, 0, 0)], 4, items=items)
    assert len(fit_content(log, ContentSettings()).rows) == 0
    expected = [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    np.testing.assert_allclose(dense(fit_content(log, ContentSettings(number_bins=2))), expected, rtol=1e-6)
