"""The reference and the product give the same lists, whatever users did and whatever is excluded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reference.histories import logged_histories
from tests.reference.recommend import Reference, best
from tests.towers.exact_retriever import SortingRetriever
from tests.towers.random_logs import ITEM_COUNT, Asked, asked
from towers.candidates import Exclusions, ItemTable, code_counts
from towers.features.histories import HistoryBatch
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.requests import REQUEST_FEATURES
from towers.models.ranker import Ranker, RankerShape
from towers.models.user_tower import UserShape, UserTower
from towers.ranking import pair_input_names
from towers.recommender import Recommender, Shoppers, UserEmbedder, ranker_item_part, top
from towers.retrieval import Allowed, Confined
from towers.settings import CandidateSettings, FeatureSettings, HeadWeights, TowerSettings

DIMENSION, LENGTH, PAGE_SIZE = 8, 5, 4
AFFINITY = np.array([[1, 1, 2, 2, 3, 3, 0], range(ITEM_COUNT)], np.int32).T.copy()  # category, brand
SETTINGS = CandidateSettings(two_tower=3, buy_again=2, popular=2, similar=2)
WEIGHTS = HeadWeights(buys=1, buys_again=0.5, value=0.25, rating=0)
PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, ITEM_COUNT - 1)), max_size=6)
SEEDS = st.none() | st.lists(st.integers(-1, ITEM_COUNT - 1), max_size=3)


@pytest.fixture(scope="module")
def both() -> tuple[Recommender, Reference]:
    torch.manual_seed(11)
    items = ItemTable(
        vectors=torch.nn.functional.normalize(torch.randn(ITEM_COUNT, DIMENSION), dim=1).numpy(),
        statistics=torch.randn(ITEM_COUNT, len(STATISTIC_NAMES)).numpy(),
        affinity=AFFINITY,
        affinity_counts=code_counts(AFFINITY),
        popular=np.array([4, 0, 2, 1], np.int32),
        retrievable=np.array([True] * 6 + [False]),
    )
    ranker = Ranker(
        RankerShape(
            request=DIMENSION + len(REQUEST_FEATURES),
            item=DIMENSION + len(STATISTIC_NAMES),
            pair=len(pair_input_names(["category", "brand"])),
            hidden=(16, 8),
            heads=("buys", "buys_again", "value", "rating"),
        )
    )
    tower = UserTower(
        UserShape(2, (3,), (2,)),
        TowerSettings(dimension=DIMENSION),
        FeatureSettings(sequence_events_max=LENGTH, user_id_buckets=4),
    )
    index = SortingRetriever(items)
    product = Recommender(
        UserEmbedder(tower, items.vectors, LENGTH), ranker, items, ranker_item_part(ranker, items), index
    )
    return product, Reference(tower, ranker, items, index, LENGTH)


@given(case=asked(requests_min=0), excluded=PAIRS, seed_rows=SEEDS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # the first draw of a busy machine is slow
def test_both_give_the_same_lists(
    both: tuple[Recommender, Reference],
    case: Asked,
    excluded: list[tuple[int, int]],
    seed_rows: list[int] | None,
) -> None:
    product, reference = both
    histories, count = case.batch(), len(case.user_rows)
    codes = np.ones(count, np.int32), np.ones((count, 1), np.int32), np.ones((count, 1), np.int32)
    request, row = np.array([pair for pair in excluded if pair[0] < count], np.int64).reshape(-1, 2).T
    exclusions = Exclusions.of(request, row, count)
    seeds = None if seed_rows is None else np.tile(np.array(seed_rows, np.int32), (count, 1))

    ours = product.embed(Shoppers.of(histories, *codes))
    theirs = reference.embed(histories, *codes)
    np.testing.assert_allclose(theirs.vectors, ours.vectors, atol=1e-5)
    candidates = product.retrieve(ours, SETTINGS, exclusions, seeds)
    expected = reference.retrieve(theirs, SETTINGS, exclusions, seeds)
    np.testing.assert_array_equal(expected.rows, candidates.rows)
    present = candidates.rows >= 0
    np.testing.assert_array_equal(expected.sources[present], candidates.sources[present])
    pairs = product.pair_inputs(ours, candidates)
    np.testing.assert_allclose(reference.pair_inputs(theirs, expected)[present], pairs[present], rtol=1e-4, atol=1e-5)
    scores = product.score(ours, candidates, pairs)
    np.testing.assert_allclose(reference.score(theirs, expected), scores, atol=1e-5)
    weighted = product.score(ours, candidates, pairs, WEIGHTS)
    np.testing.assert_allclose(reference.score(theirs, expected, WEIGHTS), weighted, rtol=1e-3, atol=1e-5)
    rows, _, _ = top(candidates, scores, PAGE_SIZE)
    np.testing.assert_array_equal(best(expected, scores, PAGE_SIZE).rows, rows)


@given(
    case=asked(),
    excluded=PAIRS,
    seed_rows=SEEDS,
    masks=st.lists(st.lists(st.booleans(), min_size=ITEM_COUNT, max_size=ITEM_COUNT).map(np.array), max_size=2),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_filter_is_as_if_everything_else_were_excluded(
    both: tuple[Recommender, Reference],
    case: Asked,
    excluded: list[tuple[int, int]],
    seed_rows: list[int] | None,
    masks: list[np.ndarray],
) -> None:
    product, reference = both
    histories, count = case.batch(), len(case.user_rows)
    codes = np.ones(count, np.int32), np.ones((count, 1), np.int32), np.ones((count, 1), np.int32)
    own = [pair for pair in excluded if pair[0] < count]
    of_request = np.arange(count) % (len(masks) + 1) - 1
    hidden = [(place, row) for place, at in enumerate(of_request) if at >= 0 for row in np.flatnonzero(~masks[at])]
    seeds = None if seed_rows is None else np.tile(np.array(seed_rows, np.int32), (count, 1))
    items = product.items
    confined = [
        Confined(mask, SortingRetriever(replace(items, retrievable=items.retrievable & mask))) for mask in masks
    ]
    allowed = Allowed(tuple(confined), of_request, np.full(count, SETTINGS.two_tower))

    ours = product.embed(Shoppers.of(histories, *codes))
    candidates = product.retrieve(ours, SETTINGS, _exclusions(own, count), seeds, allowed)
    theirs = reference.embed(histories, *codes)
    expected = reference.retrieve(theirs, SETTINGS, _exclusions(own + hidden, count), seeds)
    np.testing.assert_array_equal(expected.rows, candidates.rows)
    np.testing.assert_array_equal(expected.sources[candidates.rows >= 0], candidates.sources[candidates.rows >= 0])
    scores = product.score(ours, candidates, product.pair_inputs(ours, candidates))
    np.testing.assert_allclose(reference.score(theirs, expected), scores, atol=1e-5)


def _exclusions(pairs: list[tuple[int, int]], count: int) -> Exclusions:
    request, row = np.array(pairs, np.int64).reshape(-1, 2).T
    return Exclusions.of(request, row, count)


@given(case=asked(requests_min=0), kind_count_max=st.integers(1, 5))
def test_both_see_the_same_logged_events(case: Asked, kind_count_max: int) -> None:
    rows, as_of_s = np.array(case.user_rows, np.int32), np.array(case.as_of_s, np.int64)
    ours = case.log.batch(rows, as_of_s, kind_count_max)
    theirs = logged_histories(case.log, rows, as_of_s, kind_count_max)
    for name in HistoryBatch.__slots__:
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))
