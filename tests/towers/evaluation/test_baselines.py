import math

import numpy as np
import pytest

from tests.towers.evaluation.tiny_log import interactions, tiny_split
from towers.evaluation import baselines as baselines_module
from towers.evaluation.als import TUNED, AlsSettings, als, als_decayed_frequency, fit_factors, plus_decayed_frequency
from towers.evaluation.baselines import (
    Baseline,
    Recommender,
    decayed_frequency,
    personal_frequency,
    popularity,
    recent_popularity,
)
from towers.evaluation.item_item import bm25, tfidf
from towers.evaluation.protocol import split_by_time
from towers.evaluation.train_log import TrainLog, train_log

EVERY_BASELINE = [
    popularity,
    recent_popularity,
    personal_frequency,
    decayed_frequency,
    tfidf,
    bm25,
    als,
    als_decayed_frequency,
]
LEARNS_TASTE = [tfidf, bm25, als]
every_baseline = pytest.mark.parametrize("baseline", EVERY_BASELINE)
all_users = np.arange(5, dtype=np.int32)


@pytest.fixture(scope="module")
def log() -> TrainLog:
    return train_log(tiny_split())


@pytest.fixture(scope="module")
def two_tastes() -> TrainLog:
    """Users 0–3 buy of items 0–3, users 4–7 of items 4–7; user 0 lacks item 3 and user 4 lacks item 7."""
    events = [
        (user, item, 10)
        for first in (0, 4)
        for user in range(first, first + 4)
        for item in range(first, first + 4)
        if user != first or item != first + 3
    ]
    events += [(user, user, 100) for user in range(8)]  # the day that is asked about
    return train_log(split_by_time(interactions(events, 8, 8), train_end_s=50 * 86_400, item_users_min=2))


def test_popularity_counts_users_and_breaks_ties_by_row(log: TrainLog) -> None:
    lists = popularity(log).recommend(all_users, 3, exclude_bought=False)
    assert lists.tolist() == [[0, 1, 2]] * 5  # 0 and 1 have three users each, 2 has two


def test_recent_popularity_halves_an_event_every_sixty_days(log: TrainLog) -> None:
    recommender = recent_popularity(log)
    assert recommender.recommend(all_users[:1], 3, exclude_bought=False).tolist() == [[2, 1, 0]]
    ages = {0: (90, 80, 70, 60), 1: (1, 50, 10), 2: (2, 1, 40)}
    expected = [sum(0.5 ** (age / 60) for age in ages[item]) for item in log.candidate_rows.tolist()]
    assert recommender.scorer.scores(all_users[:1])[0] == pytest.approx(expected)


def test_personal_frequency_counts_events_then_popularity(log: TrainLog) -> None:
    lists = personal_frequency(log).recommend(all_users, 3, exclude_bought=False)
    assert lists.tolist() == [[0, 1, 2], [2, 0, 1], [0, 1, 2], [1, 0, 2], [0, 1, 2]]


def test_decayed_frequency_prefers_the_recent(log: TrainLog) -> None:
    lists = decayed_frequency(log).recommend(all_users, 3, exclude_bought=False)
    assert lists.tolist() == [[1, 0, 2], [2, 0, 1], [2, 1, 0], [1, 0, 2], [0, 1, 2]]


def test_what_was_bought_is_left_out_when_asked(log: TrainLog) -> None:
    lists = popularity(log).recommend(all_users, 3, exclude_bought=True)
    assert lists.tolist() == [[2, -1, -1], [1, -1, -1], [-1, -1, -1], [0, 2, -1], [0, 1, 2]]


def test_tfidf_similarity_is_the_cosine_of_weighted_users() -> None:
    # item 0: user 0 once, user 1 four times; item 1: user 0 once; items 2 and 3: users 2 and 3
    events = [(0, 0, 1), *[(1, 0, 1)] * 4, (0, 1, 1), (2, 2, 1), (3, 3, 1), (0, 3, 9)]
    log = train_log(split_by_time(interactions(events, 4, 4), train_end_s=5 * 86_400, item_users_min=1))
    two_items, one_item = math.log(4 / 3), math.log(4 / 2)  # of users 0 and 1; four candidates
    cosine = two_items / math.hypot(two_items, 2 * one_item)
    scores = tfidf(log).scorer.scores(np.array([0, 1], dtype=np.int32))
    column = {item: place for place, item in enumerate(log.candidate_rows.tolist())}
    assert scores[0, [column[0], column[1]]] == pytest.approx([1 + cosine, 1 + cosine])
    assert scores[1, [column[0], column[1]]] == pytest.approx([4, 4 * cosine])
    assert np.isneginf(scores[0, [column[2], column[3]]]).all()


@pytest.mark.parametrize("baseline", LEARNS_TASTE)
def test_the_missing_item_of_ones_taste_comes_first(baseline: Baseline, two_tastes: TrainLog) -> None:
    lists = baseline(two_tastes).recommend(np.array([0, 4], dtype=np.int32), 1, exclude_bought=True)
    assert lists.tolist() == [[3], [7]]


@pytest.mark.parametrize("baseline", [tfidf, bm25])
def test_items_without_a_bought_neighbour_are_not_recommended(baseline: Baseline, two_tastes: TrainLog) -> None:
    lists = baseline(two_tastes).recommend(np.array([0], dtype=np.int32), 8, exclude_bought=False)
    assert sorted(lists[0].tolist()) == [-1, -1, -1, -1, 0, 1, 2, 3]


def test_als_plus_history_is_the_sum_of_both_scores(two_tastes: TrainLog) -> None:
    users = np.arange(8, dtype=np.int32)
    factors = fit_factors(two_tastes)
    history = decayed_frequency(two_tastes).scorer.scores(users)
    blended = plus_decayed_frequency(two_tastes, factors).scorer.scores(users)
    assert blended == pytest.approx(factors.scores(users) + history)


def test_als_settings_reach_the_factorisation(two_tastes: TrainLog) -> None:
    assert fit_factors(two_tastes, AlsSettings(factors=3)).item_factors.shape == (3, 8)
    assert als(two_tastes, TUNED).scorer.scores(all_users).max() < als(two_tastes).scorer.scores(all_users).max()


@every_baseline
def test_lists_hold_distinct_candidates_then_padding(baseline: Baseline, two_tastes: TrainLog) -> None:
    for exclude_bought in (False, True):
        lists = baseline(two_tastes).recommend(np.arange(8, dtype=np.int32), 12, exclude_bought=exclude_bought)
        assert lists.shape == (8, 12)
        assert lists.dtype == np.int32
        for row in lists.tolist():
            named = [item for item in row if item >= 0]
            assert len(set(named)) == len(named)
            assert row == named + [-1] * (12 - len(named))


@every_baseline
def test_fitting_twice_gives_the_same_lists(baseline: Baseline, log: TrainLog) -> None:
    first, second = (baseline(log).recommend(all_users, 3, exclude_bought=False) for _ in range(2))
    assert np.array_equal(first, second)


@every_baseline
def test_a_list_does_not_depend_on_who_else_asks(
    baseline: Baseline, two_tastes: TrainLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: Recommender = baseline(two_tastes)
    users = np.arange(8, dtype=np.int32)
    together = fitted.recommend(users, 4, exclude_bought=True)
    monkeypatch.setattr(baselines_module, "SCORES_IN_MEMORY_MAX", 1)  # one user in a block
    assert np.array_equal(fitted.recommend(users[::-1], 4, exclude_bought=True)[::-1], together)


@every_baseline
def test_nobody_asking_is_an_empty_answer(baseline: Baseline, log: TrainLog) -> None:
    assert baseline(log).recommend(all_users[:0], 3, exclude_bought=False).shape == (0, 3)
