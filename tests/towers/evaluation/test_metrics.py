import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from towers.evaluation.metrics import RANKING_METRICS, catalogue_coverage, hit_places, per_user_metrics

ITEM_COUNT = 30


def relevant_rows(*rows: list[int], item_count: int = ITEM_COUNT) -> csr_array:
    dense = np.zeros((len(rows), item_count), dtype=np.float32)
    for user, items in enumerate(rows):
        dense[user, items] = 1.0
    return csr_array(dense)


def test_metrics_of_a_list_with_hits_in_places_two_and_four() -> None:
    # hits at places 2 and 4; three relevant items, one never shown
    metrics = per_user_metrics(np.array([[7, 3, 8, 4, 9]]), relevant_rows([3, 4, 20]), ks=(2, 5))
    assert metrics["recall@5"][0] == pytest.approx(2 / 3)
    assert metrics["precision@5"][0] == pytest.approx(2 / 5)
    assert metrics["f1@5"][0] == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert metrics["ndcg@5"][0] == pytest.approx(gain / ideal)
    assert metrics["mrr@5"][0] == pytest.approx(1 / 2)
    assert metrics["hit_rate@5"][0] == 1.0
    assert metrics["recall@2"][0] == pytest.approx(1 / 2)  # three relevant, but two places: 2 is reachable
    assert metrics["ndcg@2"][0] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))


def test_a_list_without_hits_is_worth_zero() -> None:
    metrics = per_user_metrics(np.array([[1, 2, -1]]), relevant_rows([0]), ks=(3,))
    assert {name: values[0] for name, values in metrics.items()} == {f"{name}@3": 0.0 for name in RANKING_METRICS}


def test_a_hit_after_the_cutoff_does_not_count() -> None:
    metrics = per_user_metrics(np.array([[1, 2, 0]]), relevant_rows([0]), ks=(2, 3))
    assert metrics["mrr@2"][0] == 0.0
    assert metrics["hit_rate@2"][0] == 0.0
    assert metrics["mrr@3"][0] == pytest.approx(1 / 3)


def test_padding_is_never_a_hit_and_keeps_precision_divided_by_k() -> None:
    # the last item is where a -1 of the next user would wrongly land
    metrics = per_user_metrics(np.array([[29, -1], [5, -1]]), relevant_rows([29], [5]), ks=(2,))
    assert metrics["precision@2"].tolist() == [0.5, 0.5]
    assert hit_places(np.array([[-1, 29], [-1, 5]]), relevant_rows([29], [5])).tolist() == [[False, True]] * 2


def test_coverage_counts_distinct_candidates_in_the_first_places() -> None:
    rankings = np.array([[1, 2, 9], [2, 3, 8], [2, -1, -1]])
    assert catalogue_coverage(rankings, np.array([1, 2, 3, 4]), k=2) == 3 / 4
    assert catalogue_coverage(rankings, np.array([1, 2, 3, 4]), k=1) == 2 / 4


@pytest.mark.parametrize(
    ("rankings", "relevant", "ks", "message"),
    [
        (np.array([[1, 2, 1]]), relevant_rows([0]), (2,), "item row 1 twice"),
        (np.array([[1, 2]]), relevant_rows([0]), (3,), "do not fit lists of 2 places"),
        (np.array([[1, 2]]), relevant_rows([0]), (), "do not fit"),
        (np.array([[1, 30]]), relevant_rows([0]), (1,), "outside -1..29"),
        (np.array([[1, -2]]), relevant_rows([0]), (1,), "outside -1..29"),
        (np.array([[1, 2]]), relevant_rows([]), (1,), "place 0 has no relevant item"),
        (np.array([[1, 2]]), relevant_rows([0], [1]), (1,), "there are 2 users"),
        (np.array([[1.0, 2.0]]), relevant_rows([0]), (1,), "item rows"),
        (np.zeros((0, 2), dtype=np.int32), csr_array((0, ITEM_COUNT)), (1,), "no user"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    rankings: np.ndarray, relevant: csr_array, ks: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        per_user_metrics(rankings, relevant, ks)


@st.composite
def judged_lists(draw: st.DrawFn) -> tuple[np.ndarray, csr_array]:
    user_count = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rankings = np.stack([rng.permutation(ITEM_COUNT)[:10] for _ in range(user_count)])
    for row in rankings:
        row[rng.integers(1, 11) :] = -1
    relevant = [rng.permutation(ITEM_COUNT)[: rng.integers(1, ITEM_COUNT)].tolist() for _ in range(user_count)]
    return rankings, relevant_rows(*relevant)


@given(judged_lists())
def test_metrics_lie_between_zero_and_one(judged: tuple[np.ndarray, csr_array]) -> None:
    for values in per_user_metrics(*judged, ks=(1, 5, 10)).values():
        assert values.min() >= 0.0
        assert values.max() <= 1.0 + 1e-12


@given(judged_lists(), st.integers(0, 1000))
def test_the_order_of_users_does_not_matter(judged: tuple[np.ndarray, csr_array], seed: int) -> None:
    rankings, relevant = judged
    order = np.random.default_rng(seed).permutation(len(rankings))
    straight = per_user_metrics(rankings, relevant, ks=(5, 10))
    shuffled = per_user_metrics(rankings[order], relevant[order], ks=(5, 10))
    for name, values in straight.items():
        assert np.array_equal(values[order], shuffled[name])


@given(judged_lists())
def test_a_perfect_list_is_worth_one(judged: tuple[np.ndarray, csr_array]) -> None:
    _, relevant = judged
    perfect = np.argsort(-relevant.toarray(), axis=1, kind="stable")[:, :10]
    metrics = per_user_metrics(perfect, relevant, ks=(1, 5, 10))
    for k in (1, 5, 10):
        for name in ("recall", "ndcg", "mrr", "hit_rate"):
            assert metrics[f"{name}@{k}"] == pytest.approx(1.0)


@given(judged_lists())
def test_moving_a_hit_up_never_lowers_ndcg(judged: tuple[np.ndarray, csr_array]) -> None:
    rankings, relevant = judged
    hits = hit_places(rankings, relevant)
    improved = np.take_along_axis(rankings, np.argsort(~hits, axis=1, kind="stable"), axis=1)
    before = per_user_metrics(rankings, relevant, ks=(5,))["ndcg@5"]
    assert (per_user_metrics(improved, relevant, ks=(5,))["ndcg@5"] >= before - 1e-12).all()
