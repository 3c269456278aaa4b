"""Inverted lists of int8 blocks, searched for allowed items alone, against the same sums in numpy: the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.int8_lists import Int8ListsSearcher
from index.searcher import QueryInvalid
from tests.index.test_int8_lists import Vectors, scores_of, searcher_of


def case_of(seed: int, count: int, dimension: int, list_count: int) -> tuple[Vectors, np.ndarray, Vectors]:
    """Vectors, the list of each, and centroids; a list may be empty, and one may hold nearly all."""
    random = np.random.default_rng(seed)
    vectors = np.round(random.normal(size=(count, dimension)), 1).astype(np.float32)
    share = random.dirichlet(np.full(list_count, 0.3))
    of_list = random.choice(list_count, count, p=share)
    return vectors, of_list, random.normal(size=(list_count, dimension)).astype(np.float32)


def best_of(vectors: Vectors, rows: np.ndarray, query: Vectors, k: int) -> tuple[list[int], list[float]]:
    """The k best of the rows, equal ones by row, and their scores."""
    scores, scale = scores_of(vectors[rows], query)
    best = np.lexsort((rows, -scores))[:k]
    return rows[best].tolist(), (scores[best] * scale).tolist()


def found_by(
    searcher: Int8ListsSearcher, query: Vectors, k: int, allowed: np.ndarray, scored_min: int
) -> tuple[list[int], list[float]]:
    scores, rows = searcher.search_allowed(query[None], k, allowed, scored_min)
    count = int((rows[0] >= 0).sum())
    assert np.isneginf(scores[0, count:]).all()
    assert (rows[0, count:] == -1).all()
    return rows[0, :count].tolist(), scores[0, :count].tolist()


@settings(max_examples=80)
@given(
    st.integers(0, 10_000),
    st.integers(1, 200),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 60),
    st.floats(0, 1),
)
def test_with_every_list_looked_into_the_best_allowed_rows_are_found(
    seed: int, count: int, dimension: int, list_count: int, k: int, share: float
) -> None:
    vectors, of_list, centroids = case_of(seed, count, dimension, list_count)
    random = np.random.default_rng(seed)
    allowed, query = random.random(count) < share, random.normal(size=dimension).astype(np.float32)
    for probe_count, scored_min in ((1, count), (list_count, 0)):
        searcher = searcher_of(vectors, of_list, centroids, probe_count)
        rows, scores = found_by(searcher, query, k, allowed, scored_min)
        expected, expected_scores = best_of(vectors, np.flatnonzero(allowed), query, k)
        assert rows == expected
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)


@settings(max_examples=80)
@given(
    st.integers(0, 10_000),
    st.integers(1, 200),
    st.integers(2, 9),
    st.integers(1, 9),
    st.integers(0, 80),
    st.floats(0, 1),
)
def test_lists_are_walked_from_the_best_on_until_enough_are_scored(
    seed: int, count: int, list_count: int, probe_count: int, scored_min: int, share: float
) -> None:
    probe_count = min(probe_count, list_count)
    vectors, of_list, centroids = case_of(seed, count, 8, list_count)
    random = np.random.default_rng(seed)
    allowed, query = random.random(count) < share, random.normal(size=8).astype(np.float32)
    searcher = searcher_of(vectors, of_list, centroids, probe_count)
    walked: list[int] = []
    for probe, at in enumerate(np.argsort(-scores_of(centroids, query)[0], kind="stable").tolist()):
        if probe >= probe_count and allowed[np.isin(of_list, walked)].sum() >= scored_min:
            break
        walked.append(at)
    inside = np.flatnonzero(allowed & np.isin(of_list, walked))
    assert found_by(searcher, query, count, allowed, scored_min)[0] == best_of(vectors, inside, query, count)[0]


def test_a_batch_answers_exactly_as_single_queries() -> None:
    vectors, of_list, centroids = case_of(1, 3_000, 16, 40)
    searcher = searcher_of(vectors, of_list, centroids, 4)
    random = np.random.default_rng(2)
    allowed, queries = random.random(3_000) < 0.1, random.normal(size=(9, 16)).astype(np.float32)
    scores, rows = searcher.search_allowed(queries, 20, allowed, 100)
    for at in range(len(queries)):
        alone, alone_rows = searcher.search_allowed(queries[at : at + 1], 20, allowed, 100)
        np.testing.assert_array_equal(rows[at], alone_rows[0])
        np.testing.assert_array_equal(scores[at], alone[0])


def test_rows_of_which_nothing_is_said_are_refused() -> None:
    vectors, of_list, centroids = case_of(1, 30, 4, 3)
    with pytest.raises(QueryInvalid, match="29 rows are allowed or not, of 30"):
        searcher_of(vectors, of_list, centroids, 1).search_allowed(vectors[:1], 1, np.ones(29, np.bool_), 1)


def test_writable_and_mapped_masks_are_one_to_the_compiler() -> None:
    from index.int8_filtered import search_allowed_lists

    vectors, of_list, centroids = case_of(1, 30, 4, 3)
    searcher = searcher_of(vectors, of_list, centroids, 1)
    writable = np.ones(40, np.bool_)
    mapped = np.frombuffer(bytes(b"\1" * 40), np.bool_)
    searcher.search_allowed(vectors[:1], 1, writable, 1)
    before = list(search_allowed_lists.signatures)
    searcher.search_allowed(vectors[:1], 1, mapped, 1)
    assert list(search_allowed_lists.signatures) == before
