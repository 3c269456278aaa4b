"""One suite over every searcher, against a full sort of all inner products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from index.build import build_searcher
from index.config import IndexConfig, IndexKind
from index.searcher import CANDIDATE_COUNT_MAX, CandidateCountInvalid, QueryInvalid, Searcher
from index.storage import index_file_name, open_searcher, save_searcher

Vectors = npt.NDArray[np.float32]
Make = Callable[[Vectors], Searcher]

DIMENSION = 16
EXACT_KINDS = (IndexKind.EXACT, IndexKind.INT8_EXACT, IndexKind.FLAT)
# Every list probed, every node weighed: what is left is the error of one byte a dimension.
SETTINGS = {
    IndexKind.IVF_INT8: {"list_count": 8, "probe_count": 8},
    IndexKind.IVF_FLAT: {"list_count": 8, "probe_count": 8},
    IndexKind.IVF_SQ8: {"list_count": 8, "probe_count": 8},
    IndexKind.HNSW_FLAT: {"search_effort": 400, "link_count": 16, "construction_effort": 100},
    IndexKind.HNSW_SQ8: {"search_effort": 400, "link_count": 16, "construction_effort": 100},
}
SCORE_TOLERANCE = {IndexKind.IVF_INT8: 0.02, IndexKind.IVF_SQ8: 0.02, IndexKind.HNSW_SQ8: 0.02}
KINDS = [kind for kind in IndexKind if kind is not IndexKind.AUTO]


def unit_vectors(count: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def by_full_sort(vectors: Vectors, queries: Vectors, k: int) -> Vectors:
    """The k best scores (B, k) of each query; float64, so that it shares no rounding with what is tested."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T  # (B, n)
    return -np.sort(-scores, axis=1)[:, :k].astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def one_faiss_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> IndexKind:
    return IndexKind(request.param)


@pytest.fixture(params=["built", "opened"])
def make(request: pytest.FixtureRequest, kind: IndexKind, tmp_path: Path) -> Make:
    """A searcher as built, and the same one memory-mapped from its file."""

    def make_searcher(vectors: Vectors) -> Searcher:
        config = IndexConfig.model_validate({"kind": kind, "device": "cpu", "recall_k": 10, **SETTINGS.get(kind, {})})
        searcher, _ = build_searcher(vectors, config)
        if request.param == "built":
            return searcher
        path = tmp_path / index_file_name(searcher)
        save_searcher(searcher, path)
        return open_searcher(path)

    return make_searcher


def test_finds_what_a_full_sort_finds(make: Make, kind: IndexKind) -> None:
    vectors, queries = unit_vectors(2000, seed=1), unit_vectors(9, seed=2)
    searcher = make(vectors)
    assert (searcher.item_count, searcher.dimension) == (2000, DIMENSION)
    scores, rows = searcher.search(queries, 25)
    assert scores.shape == rows.shape == (9, 25)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64

    true_scores = np.einsum("bkd,bd->bk", vectors[rows], queries)
    np.testing.assert_allclose(scores, true_scores, atol=SCORE_TOLERANCE.get(kind, 1e-5))
    best = by_full_sort(vectors, queries, 25)
    recall = (true_scores >= best[:, -1:] - 1e-5).mean()
    if kind in EXACT_KINDS:
        np.testing.assert_allclose(scores, best, atol=1e-5)
    assert recall >= (1.0 if kind in EXACT_KINDS else 0.9)


def test_scores_descend_and_no_row_comes_twice(make: Make) -> None:
    scores, rows = make(unit_vectors(700, seed=3)).search(unit_vectors(5, seed=4), 50)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(line)) == 50 for line in rows.tolist())


@pytest.mark.parametrize("batch_size", [2, 3, 4, 33])
def test_a_batch_answers_like_single_queries(make: Make, batch_size: int) -> None:
    vectors, queries = unit_vectors(1500, seed=5), unit_vectors(batch_size, seed=6)
    searcher = make(vectors)
    scores, rows = searcher.search(queries, 20)
    for at in range(batch_size):
        single_scores, single_rows = searcher.search(queries[at : at + 1], 20)
        np.testing.assert_allclose(scores[at], single_scores[0], atol=1e-5)
        moved = rows[at] != single_rows[0]  # only among near-equals
        np.testing.assert_allclose(
            vectors[rows[at][moved]] @ queries[at], vectors[single_rows[0][moved]] @ queries[at], atol=0.02
        )


def test_equal_items_share_the_places_they_tie_for(make: Make, kind: IndexKind) -> None:
    vectors = np.repeat(unit_vectors(30, seed=7), 10, axis=0)  # row r is one of ten equals of r // 10
    scores, rows = make(vectors).search(vectors[:1], 10)
    if kind in EXACT_KINDS:
        assert sorted(rows[0].tolist()) == list(range(10))
    np.testing.assert_allclose(scores[0], np.ones(10), atol=0.02)


def test_k_above_the_item_count_pads(make: Make) -> None:
    vectors, queries = unit_vectors(60, seed=8), unit_vectors(3, seed=9)
    scores, rows = make(vectors).search(queries, 100)
    assert (rows[:, 60:] == -1).all()
    assert np.isneginf(scores[:, 60:]).all()
    assert all(sorted(line) == list(range(60)) for line in rows[:, :60].tolist())


def test_no_queries_no_answers(make: Make) -> None:
    scores, rows = make(unit_vectors(60, seed=10)).search(np.empty((0, DIMENSION), np.float32), 7)
    assert scores.shape == rows.shape == (0, 7)


def test_queries_need_not_be_contiguous(make: Make) -> None:
    searcher, queries = make(unit_vectors(300, seed=11)), unit_vectors(8, seed=12)
    np.testing.assert_array_equal(
        searcher.search(queries[::2], 5)[1], searcher.search(np.ascontiguousarray(queries[::2]), 5)[1]
    )


def test_the_caller_keeps_the_queries_unchanged(make: Make) -> None:
    queries = unit_vectors(4, seed=13)
    before = queries.copy()
    make(unit_vectors(100, seed=14)).search(queries, 5)
    np.testing.assert_array_equal(queries, before)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.zeros((2, DIMENSION + 1), np.float32), "dimension 17, the index has 16"),
        (np.zeros(DIMENSION, np.float32), r"shape \(16,\)"),
        (np.zeros((2, DIMENSION), np.float64), "float64"),
        (np.full((1, DIMENSION), np.nan, np.float32), "query 0 has nan at position 0"),
        (np.array([[0.0] * DIMENSION, [0.0] * 15 + [np.inf]], np.float32), "query 1 has inf at position 15"),
    ],
    ids=["dimension", "one query", "dtype", "nan", "infinity"],
)
def test_bad_queries_are_refused_with_their_value(make: Make, queries: Vectors, message: str) -> None:
    with pytest.raises(QueryInvalid, match=message):
        make(unit_vectors(50, seed=15)).search(queries, 5)


@pytest.mark.parametrize("k", [0, -3, CANDIDATE_COUNT_MAX + 1])
def test_a_k_out_of_range_is_refused(make: Make, k: int) -> None:
    with pytest.raises(CandidateCountInvalid, match=f"k is {k};"):
        make(unit_vectors(50, seed=16)).search(unit_vectors(1, seed=17), k)


@pytest.mark.parametrize("kind", [IndexKind.EXACT, IndexKind.INT8_EXACT, IndexKind.FLAT, IndexKind.HNSW_FLAT], ids=str)
def test_an_empty_catalogue_answers_with_nothing(make: Make) -> None:
    searcher = make(np.empty((0, DIMENSION), np.float32))
    scores, rows = searcher.search(unit_vectors(2, seed=18), 3)
    assert searcher.item_count == 0
    assert (rows == -1).all()
    assert np.isneginf(scores).all()
