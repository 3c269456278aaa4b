"""Inverted lists of int8 blocks against the same sums in numpy: exactly the same rows, in any batch, from any file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from index.int8_blocks import Blocks, encode, padded_dimension
from index.int8_lists import Int8ListsSearcher, warm
from index.mapped_tensors import open_tensors
from index.searcher import IndexFileInvalid

Vectors = npt.NDArray[np.float32]


def searcher_of(vectors: Vectors, of_list: npt.NDArray[np.int64], centroids: Vectors, probe_count: int) -> Any:
    """Item row i lies in list `of_list[i]`."""
    lists = [np.flatnonzero(of_list == at).astype(np.int32) for at in range(len(centroids))]
    data = np.concatenate([encode(vectors[rows], rows) for rows in lists])
    return Int8ListsSearcher(
        Blocks.of(encode(centroids, np.arange(len(centroids), dtype=np.int32))),
        Blocks.of(data),
        np.array([len(rows) for rows in lists], np.int32),
        vectors.shape[1],
        probe_count,
    )


def scores_of(vectors: Vectors, query: Vectors) -> tuple[npt.NDArray[np.float32], np.float32]:
    """Scores (n,) of integer sums, before the query's scale; and that scale."""
    scales = (np.abs(vectors).max(axis=1, initial=0) / np.float32(127)).astype(np.float32)
    codes = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None]).astype(np.int64)
    code_max = np.float32(min(2**15 - 1, (2**31 - 1) // (127 * padded_dimension(vectors.shape[1]))))
    largest = np.float32(np.abs(query).max()) if np.abs(query).max() >= 1e-30 else np.float32(1)
    sums = codes @ np.rint(query * (code_max / largest)).astype(np.int64)
    assert np.abs(sums).max(initial=0) < 2**31
    return sums.astype(np.float32) * scales, largest / code_max


def in_numpy(
    vectors: Vectors, of_list: npt.NDArray[np.int64], centroids: Vectors, probe_count: int, query: Vectors, k: int
) -> tuple[list[int], list[float]]:
    """The rows of the k best items of the best lists, and their scores; ties to the lower list and row."""
    chosen = np.lexsort((np.arange(len(centroids)), -scores_of(centroids, query)[0]))[:probe_count]
    rows = np.flatnonzero(np.isin(of_list, chosen))
    scores, scale = scores_of(vectors[rows], query)
    best = np.lexsort((rows, -scores))[:k]
    return rows[best].tolist(), (scores[best] * scale).tolist()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**20),
    count=st.integers(0, 300),
    dimension=st.sampled_from([1, 3, 8, 16, 50]),
    list_count=st.integers(1, 40),
    k=st.integers(1, 60),
    digits=st.sampled_from([0, 1, 6]),  # few digits: many ties
)
def test_the_same_rows_as_in_numpy(seed: int, count: int, dimension: int, list_count: int, k: int, digits: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, dimension)).round(digits).astype(np.float32)
    centroids = random.normal(size=(list_count, dimension)).round(digits).astype(np.float32)
    queries = random.normal(size=(5, dimension)).round(digits).astype(np.float32)
    of_list = random.integers(0, list_count, count)
    probe_count = int(random.integers(1, list_count + 1))
    searcher = searcher_of(vectors, of_list, centroids, probe_count)
    scores, rows = searcher.search(queries, k)
    for at, query in enumerate(queries):
        expected_rows, expected_scores = in_numpy(vectors, of_list, centroids, probe_count, query, k)
        found = len(expected_rows)
        assert rows[at, :found].tolist() == expected_rows
        np.testing.assert_allclose(scores[at, :found], expected_scores, rtol=1e-6)
        assert (rows[at, found:] == -1).all()
        assert np.isneginf(scores[at, found:]).all()


def clustered(count: int, dimension: int = 16) -> Vectors:
    random = np.random.default_rng(3)
    vectors = (
        random.normal(size=(30, dimension))[random.integers(0, 30, count)]
        + random.normal(size=(count, dimension)) * 0.4
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered(4_000)


@pytest.fixture(scope="module")
def faiss_index(vectors: Vectors) -> Any:
    index = faiss.index_factory(vectors.shape[1], "IVF32,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = 6
    return index


def test_a_batch_answers_exactly_as_single_queries(faiss_index: Any, vectors: Vectors) -> None:
    searcher = Int8ListsSearcher.from_faiss(faiss_index, vectors)
    scores, rows = searcher.search(vectors[:33], 50)
    for at in range(33):
        single_scores, single_rows = searcher.search(vectors[at : at + 1], 50)
        np.testing.assert_array_equal(rows[at], single_rows[0])
        np.testing.assert_array_equal(scores[at], single_scores[0])


def test_the_lists_of_faiss_are_taken_with_every_item_in_one(faiss_index: Any, vectors: Vectors) -> None:
    searcher = Int8ListsSearcher.from_faiss(faiss_index, vectors)
    assert (searcher.list_count, searcher.probe_count, searcher.item_count) == (32, 6, 4_000)
    searcher.probe_count = 32
    _, rows = searcher.search(vectors[:1], 4_000)
    assert sorted(rows[0].tolist()) == list(range(4_000))


def test_it_finds_what_faiss_finds(faiss_index: Any, vectors: Vectors) -> None:
    _, ours = Int8ListsSearcher.from_faiss(faiss_index, vectors).search(vectors[:200], 20)
    _, theirs = faiss_index.search(vectors[:200], 20)
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    assert np.mean(shared) > 0.95  # both round to a byte, in different ways


def test_thousands_of_equals_go_to_the_lowest_rows() -> None:
    vectors = np.tile(np.array([[0.6, 0.8]], np.float32), (5_000, 1))
    searcher = searcher_of(vectors, np.arange(5_000) % 3, np.eye(3, 2, dtype=np.float32), 3)
    _, rows = searcher.search(np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]], np.float32), 100)
    assert (rows == np.arange(100)).all()


@pytest.mark.parametrize("factor", [1e-38, 1e-20, 1e30])
def test_a_query_of_any_length_ranks_alike(faiss_index: Any, vectors: Vectors, factor: float) -> None:
    searcher = Int8ListsSearcher.from_faiss(faiss_index, vectors)
    scores, rows = searcher.search(vectors[:5] * np.float32(factor), 10)
    assert np.isfinite(scores).all()
    if factor > 1e-30:
        np.testing.assert_array_equal(rows, searcher.search(vectors[:5], 10)[1])


def test_sums_do_not_overflow_in_many_dimensions() -> None:
    vectors = np.ones((20, 3_000), np.float32)
    vectors[7] = 2
    searcher = searcher_of(vectors, np.zeros(20, np.int64), np.ones((1, 3_000), np.float32), 1)
    scores, rows = searcher.search(np.ones((1, 3_000), np.float32), 2)
    assert rows.tolist() == [[7, 0]]
    np.testing.assert_allclose(scores, [[6_000, 3_000]], rtol=1e-3)


def test_a_file_is_mapped_and_answers_the_same(faiss_index: Any, vectors: Vectors, tmp_path: Path) -> None:
    searcher = Int8ListsSearcher.from_faiss(faiss_index, vectors)
    searcher.save(tmp_path / "index.int8.safetensors")
    opened = Int8ListsSearcher.open(tmp_path / "index.int8.safetensors")
    assert (opened.probe_count, opened.item_count, opened.dimension) == (6, 4_000, 16)
    assert not opened._lists.data.flags.owndata
    for built, read in zip(searcher.search(vectors[:9], 30), opened.search(vectors[:9], 30), strict=True):
        np.testing.assert_array_equal(built, read)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sizes", lambda sizes: sizes + np.int32(16)),
        ("sizes", lambda sizes: -sizes),
        ("sizes", lambda sizes: sizes[:-1]),
        ("sizes", lambda sizes: sizes.astype(np.int64)),
        ("lists", lambda lists: lists[:-1]),
        ("lists", lambda lists: lists[:, :-16]),
        ("lists", lambda lists: lists.view(np.int8)),
        ("centroids", lambda centroids: centroids[:-1]),
        ("centroids", lambda centroids: centroids.ravel()),
        ("dimension_and_probe_count", lambda facts: facts + np.array([1_000, 0])),
        ("dimension_and_probe_count", lambda facts: facts * [1, 0]),
        ("dimension_and_probe_count", lambda facts: facts + np.array([0, 1_000])),
        ("dimension_and_probe_count", lambda facts: facts[:1]),
        ("dimension_and_probe_count", lambda facts: facts * -1),
        ("lists", None),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    faiss_index: Any, vectors: Vectors, tmp_path: Path, name: str, change: Any
) -> None:
    path = tmp_path / "index.int8.safetensors"
    Int8ListsSearcher.from_faiss(faiss_index, vectors).save(path)
    tensors = {key: tensor.copy() for key, tensor in open_tensors(path).items()}
    tensor = tensors.pop(name)
    if change is not None:
        tensors[name] = np.ascontiguousarray(change(tensor))
    save_file(tensors, path)
    with pytest.raises(IndexFileInvalid, match=r"index\.int8|shapes|lists"):
        Int8ListsSearcher.open(path)


def test_it_can_be_warmed_before_there_is_an_index() -> None:
    warm()
