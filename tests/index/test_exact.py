"""Exact search: hand-computed answers, and the selection by group maxima against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import exact
from index.exact import ExactSearcher
from index.searcher import VectorsInvalid


def test_three_items_by_hand() -> None:
    searcher = ExactSearcher(np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32))
    scores, rows = searcher.search(np.array([[1, 0], [0, 1]], np.float32), 2)
    np.testing.assert_allclose(scores, [[1, 0.6], [1, 0.8]])
    np.testing.assert_array_equal(rows, [[0, 2], [1, 2]])


@settings(max_examples=150, deadline=None)
@given(
    item_count=st.integers(1, 900),
    k=st.integers(1, 1000),
    query_count=st.integers(1, 6),
    levels=st.sampled_from([1, 2, 7, 100_000]),
    seed=st.integers(0, 2**16),
)
def test_any_size_equals_a_stable_full_sort(item_count: int, k: int, query_count: int, levels: int, seed: int) -> None:
    """Whole numbers, so that scores are exact and ties many: the order, too, must be that of a stable sort."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-levels, levels, (item_count, 3), endpoint=True).astype(np.float32)
    queries = rng.integers(-3, 3, (query_count, 3), endpoint=True).astype(np.float32)
    _, rows = ExactSearcher(vectors).search(queries, k)
    expected = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows[:, : expected.shape[1]], expected)
    assert (rows[:, expected.shape[1] :] == -1).all()


def test_a_batch_too_large_for_one_pass_is_answered_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    searcher = ExactSearcher(rng.normal(size=(500, 4)).astype(np.float32))
    queries = rng.normal(size=(23, 4)).astype(np.float32)
    at_once = searcher.search(queries, 9)
    monkeypatch.setattr(exact, "_SCORES_SIZE_BYTES_MAX", 4 * 500 * 5)
    in_passes = searcher.search(queries, 9)
    np.testing.assert_array_equal(in_passes[1], at_once[1])
    np.testing.assert_allclose(in_passes[0], at_once[0], atol=1e-6)


def test_columns_are_searched_without_a_copy() -> None:
    columns = np.eye(3, dtype=np.float32)
    assert ExactSearcher.from_columns(columns).columns is columns


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros(3, np.float32), r"shape \(3,\)"),
        (np.zeros((3, 0), np.float32), r"shape \(3, 0\)"),
        (np.zeros((3, 2), np.float64), "float64"),
        (np.array([[0, 0], [0, np.nan]], np.float32), "item row 1 .* nan"),
    ],
    ids=["one vector", "no dimension", "dtype", "nan"],
)
def test_bad_item_vectors_are_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(VectorsInvalid, match=message):
        ExactSearcher(vectors)
