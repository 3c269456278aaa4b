from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from index.exact import ExactSearcher
from index.int8_blocks import BLOCK_SIZE, Blocks, decode, encode
from index.int8_exact import Int8ExactSearcher
from index.searcher import IndexFileInvalid
from index.storage import INT8_EXACT_INDEX_NAME, open_searcher, save_searcher


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 900),
    dimension=st.sampled_from([1, 3, 8, 16, 33, 64]),
    k=st.integers(1, 300),
    spread=st.sampled_from([0.0, 1e-6, 0.05, 1.0]),
    size=st.sampled_from([1e-3, 1.0, 1e4]),
    seed=st.integers(0, 2**31),
)
def test_the_answer_is_that_of_float32_however_alike_the_items_are(
    count: int, dimension: int, k: int, spread: float, size: float, seed: int
) -> None:
    """Items that differ by less than what int8 can tell are where a bound that is too narrow would lose some."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=dimension)
    vectors = (size * (centre + spread * random.normal(size=(count, dimension)))).astype(np.float32)
    queries = random.normal(size=(6, dimension)).astype(np.float32)  # four side by side, and two
    queries[2] = 0
    searcher = Int8ExactSearcher.of(vectors)
    scores, rows = searcher.search(queries, k)
    np.testing.assert_array_equal(scores[1], searcher.search(queries[1:2], k)[0][0])
    exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    wanted = -np.sort(-exact, axis=1)[:, :k]
    found = wanted.shape[1]
    tolerance = 1e-5 * np.linalg.norm(queries, axis=1).max() * np.linalg.norm(vectors, axis=1).max() + 1e-12
    np.testing.assert_allclose(scores[:, :found], wanted, rtol=0, atol=tolerance)
    np.testing.assert_allclose(np.take_along_axis(exact, rows[:, :found], axis=1), wanted, rtol=0, atol=tolerance)
    assert all(len(set(line.tolist())) == found for line in rows[:, :found])
    assert (rows[:, found:] == -1).all()


def test_items_below_zero_are_not_mistaken_for_what_the_last_block_is_filled_up_with() -> None:
    vectors = -np.ones((BLOCK_SIZE + 3, 4), np.float32)
    vectors[BLOCK_SIZE + 1] *= 0.5
    scores, rows = Int8ExactSearcher.of(vectors).search(np.ones((1, 4), np.float32), 2)
    assert rows.tolist() == [[BLOCK_SIZE + 1, 0]]  # ties to the lower row
    assert scores.tolist() == [[-2.0, -4.0]]


def test_a_single_item_may_lie_in_either_order() -> None:
    """NumPy calls one line contiguous whatever its stride is."""
    vector = np.arange(1, 17, dtype=np.float32)[None, :]
    scores, rows = Int8ExactSearcher.of(np.asfortranarray(vector)).search(np.asfortranarray(vector), 1)
    assert rows.tolist() == [[0]]
    assert scores.tolist() == [[float((vector * vector).sum())]]


def test_few_of_many_items_are_scored_in_float32() -> None:
    """Elsewhere the stored vectors may be wrong: nobody looks at them."""
    random = np.random.default_rng(3)
    vectors = random.normal(size=(20_000, 64)).astype(np.float32)
    query = random.normal(size=(1, 64)).astype(np.float32)
    searcher = Int8ExactSearcher.of(vectors)
    _, rows = searcher.search(query, 100)
    ranks = np.argsort(np.argsort(-(vectors @ query[0])))
    wrong = vectors.copy()
    wrong[ranks >= 1_000] = 1e6 * query[0]
    blind = Int8ExactSearcher(wrong, searcher._blocks, searcher._norm_max, searcher._error_norm_max)
    np.testing.assert_array_equal(blind.search(query, 100)[1], rows)
    np.testing.assert_array_equal(np.sort(rows[0]), np.sort(ExactSearcher(vectors).search(query, 100)[1][0]))


@pytest.mark.parametrize("shape", [(1, 1), (16, 8), (37, 5), (100, 64)])
def test_decoded_blocks_are_off_by_half_a_step_at_most(shape: tuple[int, int]) -> None:
    vectors = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    decoded = decode(encode(vectors, np.arange(len(vectors), dtype=np.int32)), *shape)
    assert (np.abs(decoded - vectors) <= np.abs(vectors).max(axis=1, keepdims=True) / 127 * 0.5001).all()


def test_a_file_is_mapped_and_one_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / INT8_EXACT_INDEX_NAME
    save_searcher(Int8ExactSearcher.of(np.eye(20, dtype=np.float32)), path)
    opened = open_searcher(path)
    assert isinstance(opened, Int8ExactSearcher)
    assert not opened._vectors.flags.owndata
    blocks = Blocks.of(encode(np.eye(40, dtype=np.float32), np.arange(40, dtype=np.int32)))
    vectors = np.eye(20, dtype=np.float32)
    save_file({"vectors": vectors, "blocks": blocks.data, "largest_norms": np.array([1.0, 0.0])}, path)
    with pytest.raises(IndexFileInvalid, match="blocks have the shape"):
        open_searcher(path)
    save_file({"vectors": vectors}, path)
    with pytest.raises(IndexFileInvalid, match="holds no exact int8 index"):
        open_searcher(path)
