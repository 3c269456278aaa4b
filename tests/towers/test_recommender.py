from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.exact_retriever import SortingRetriever
from tests.towers.random_logs import DAY_S, ITEM_COUNT, PURCHASE, VIEW, Asked, extra_of, histories_of
from towers.candidates import Candidates, Exclusions, ItemTable, code_counts
from towers.features.histories import FloatArray, Int32Array
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.requests import REQUEST_FEATURES
from towers.models.ranker import Ranker, RankerShape
from towers.models.user_tower import UserShape, UserTower
from towers.ranking import pair_input_names
from towers.recommender import Recommender, Shoppers, UserEmbedder, ranker_item_part, top
from towers.settings import CandidateSettings, FeatureSettings, TowerSettings

DIMENSION, LENGTH = 8, 5
NOW = 100 * DAY_S
CATEGORY = np.array([[1], [1], [2], [2], [3], [3], [0]], np.int32)
SETTINGS = CandidateSettings(two_tower=3, buy_again=2, popular=2, similar=2)
LOG = histories_of(
    [
        [(2, PURCHASE, NOW - 20 * DAY_S), (3, VIEW, NOW - 9 * DAY_S), (2, PURCHASE, NOW - 8 * DAY_S)],
        [],
        [(5, PURCHASE, NOW - 3 * DAY_S), (6, PURCHASE, NOW - 3 * DAY_S), (0, VIEW, NOW - DAY_S)],
    ]
)
ASKED = Asked(LOG, [0, -1, 2, 1], [NOW] * 4, [None, None, extra_of([(1, VIEW, NOW, False)]), None])


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    torch.manual_seed(3)
    return Ranker(
        RankerShape(
            request=DIMENSION + len(REQUEST_FEATURES),
            item=DIMENSION + len(STATISTIC_NAMES),
            pair=len(pair_input_names(["category"])),
            hidden=(16, 8),
        )
    )


@pytest.fixture(scope="module")
def recommender(ranker: Ranker) -> Recommender:
    """Random weights and vectors: what matters here is that every stage fits the next."""
    torch.manual_seed(4)
    vectors = torch.nn.functional.normalize(torch.randn(ITEM_COUNT, DIMENSION), dim=1).numpy()
    items = ItemTable(
        vectors=vectors,
        statistics=torch.randn(ITEM_COUNT, len(STATISTIC_NAMES)).numpy(),
        affinity=CATEGORY,
        affinity_counts=code_counts(CATEGORY),
        popular=np.arange(ITEM_COUNT, dtype=np.int32),
        retrievable=np.ones(ITEM_COUNT, np.bool_),
    )
    tower = UserTower(
        UserShape(2, (3,), (2,)),
        TowerSettings(dimension=DIMENSION),
        FeatureSettings(sequence_events_max=LENGTH, user_id_buckets=4),
    )
    embedder = UserEmbedder(tower, vectors, LENGTH)
    return Recommender(embedder, ranker, items, ranker_item_part(ranker, items), SortingRetriever(items))


def shoppers_of(case: Asked) -> Shoppers:
    count = len(case.user_rows)
    rows = np.maximum(case.user_rows, 0)
    bucket = np.where(np.array(case.user_rows) >= 0, rows % 4 + 1, 0).astype(np.int32)
    attribute, context = (rows % 3).astype(np.int32).reshape(count, 1), np.ones((count, 1), np.int32)
    return Shoppers.of(case.batch(), bucket, attribute, context)


def recommend(recommender: Recommender, case: Asked, excluded: list[tuple[int, int]]) -> tuple[Candidates, FloatArray]:
    embedded = recommender.embed(shoppers_of(case))
    request, row = np.array(excluded, np.int64).reshape(-1, 2).T
    exclusions = Exclusions.of(request, row, len(case.user_rows))
    candidates = recommender.retrieve(embedded, SETTINGS, exclusions)
    return candidates, recommender.score(embedded, candidates, recommender.pair_inputs(embedded, candidates))


def scored(candidates: Candidates, scores: FloatArray, place: int) -> dict[int, float]:
    present = candidates.rows[place] >= 0
    return dict(zip(candidates.rows[place][present].tolist(), scores[place][present].tolist(), strict=True))


def test_everybody_gets_probabilities_known_or_not(recommender: Recommender) -> None:
    candidates, scores = recommend(recommender, ASKED, [])
    present = candidates.rows >= 0
    assert present.any(axis=1).all()
    assert ((scores[present] > 0) & (scores[present] < 1)).all()
    assert (scores[~present] == -1).all()


def test_a_batch_is_its_single_requests(recommender: Recommender) -> None:
    excluded = [(0, 2), (2, 5), (2, 0)]
    together = recommend(recommender, ASKED, excluded)
    for place in range(4):
        one = slice(place, place + 1)
        case = Asked(LOG, ASKED.user_rows[one], ASKED.as_of_s[one], ASKED.extra[one])
        alone = recommend(recommender, case, [(0, row) for owner, row in excluded if owner == place])
        assert scored(*together, place) == pytest.approx(scored(*alone, 0), abs=1e-5)


def test_a_request_whose_candidates_are_all_excluded_gets_none_and_the_others_theirs(recommender: Recommender) -> None:
    everything = [(2, row) for row in range(ITEM_COUNT)]
    candidates, scores = recommend(recommender, ASKED, everything)
    assert scored(candidates, scores, 2) == {}
    assert scored(candidates, scores, 0) == pytest.approx(scored(*recommend(recommender, ASKED, []), 0), abs=1e-6)


def test_a_batch_without_any_candidate_is_an_empty_list_for_each(recommender: Recommender) -> None:
    everything = [(place, row) for place in range(4) for row in range(ITEM_COUNT)]
    candidates, scores = recommend(recommender, ASKED, everything)
    assert scores.shape == (4, 0)
    assert [part.shape for part in top(candidates, scores, 5)] == [(4, 0)] * 3


def test_an_empty_batch_stays_empty(recommender: Recommender) -> None:
    candidates, scores = recommend(recommender, Asked(LOG, [], [], []), [])
    assert len(scores) == 0
    assert len(top(candidates, scores, 5)[0]) == 0


def test_scores_are_those_of_the_unsplit_ranker(recommender: Recommender, ranker: Ranker) -> None:
    embedded = recommender.embed(shoppers_of(ASKED))
    candidates = recommender.retrieve(embedded, SETTINGS, Exclusions.of(_none(), _none(), 4))
    pairs = recommender.pair_inputs(embedded, candidates)
    scores = recommender.score(embedded, candidates, pairs)
    request = np.concatenate([embedded.vectors, embedded.arrays.feature], axis=1)
    item = np.concatenate([recommender.items.vectors, recommender.items.statistics], axis=1)
    place, column = np.nonzero(candidates.rows >= 0)
    with torch.inference_mode():
        expected = torch.sigmoid(
            ranker(
                torch.from_numpy(request[place]),
                torch.from_numpy(item[candidates.rows[place, column]]),
                torch.from_numpy(pairs[place, column]),
            )
        )
    np.testing.assert_allclose(scores[place, column], expected.numpy(), atol=1e-5)


def test_top_orders_by_score_and_equal_scores_by_row() -> None:
    candidates = candidates_of([[1, 4, 5, 9], [2, 3, -1, -1]])
    scores = np.array([[0.2, 0.9, 0.2, 0.4], [0.1, 0.3, -1, -1]], np.float32)
    rows, best, sources = top(candidates, scores, 3)
    assert rows.tolist() == [[4, 9, 1], [3, 2, -1]]
    assert best.ravel().tolist() == pytest.approx([0.9, 0.4, 0.2, 0.3, 0.1, -1])
    assert sources.tolist() == [[2, 4, 1], [2, 1, 3]]
    assert top(candidates, scores, 50)[0].tolist() == [[4, 9, 1, 5], [3, 2, -1, -1]]
    assert [part.shape for part in top(candidates, scores, 0)] == [(2, 0)] * 3


_SCORE = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.5, 1.0])  # few, so that equal ones are common


@given(
    st.integers(0, 9).flatmap(lambda width: st.lists(st.lists(_SCORE, min_size=width, max_size=width), max_size=4)),
    st.integers(0, 12),
)
def test_top_is_a_stable_sort_of_each_request(lines: list[list[float]], k: int) -> None:
    scores = np.array(lines, np.float32).reshape(len(lines), -1 if lines and lines[0] else 0)
    rows = np.tile(np.arange(0, 3 * scores.shape[1], 3, dtype=np.int32), (len(lines), 1))
    numbers = np.arange(rows.size, dtype=np.uint32).reshape(rows.shape)
    found = top(Candidates(rows, numbers), scores, k)
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert found[2].tolist() == np.take_along_axis(numbers, columns, axis=1).tolist()
    assert found[1].tolist() == np.take_along_axis(scores, columns, axis=1).tolist()
    assert found[0].tolist() == (3 * columns).tolist()


def test_top_ranks_infinite_scores_where_they_belong() -> None:
    scores = np.array([[0.5, -np.inf, np.inf, 0.75]], np.float32)
    assert top(candidates_of([[1, 2, 3, 4]]), scores, 3)[0].tolist() == [[3, 4, 1]]


def candidates_of(rows: list[list[int]]) -> Candidates:
    array: Int32Array = np.array(rows, np.int32)
    return Candidates(array, np.tile(np.arange(1, array.shape[1] + 1, dtype=np.uint32), (len(array), 1)))


def _none() -> np.ndarray:
    return np.zeros(0, np.int64)
