"""Blocks of int8 vectors: what is written into them comes back, within half a step of each vector's scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from index.int8_blocks import BLOCK_SIZE, NO_ID, Blocks, block_size_bytes, encode, padded_dimension


def decode(data: npt.NDArray[np.uint8], dimension: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Vectors and ids as the layout of index.int8_blocks says."""
    padded = padded_dimension(dimension)
    codes = data[:, : padded * BLOCK_SIZE].copy().view(np.int8).reshape(-1, padded // 2, BLOCK_SIZE, 2)
    scales = data[:, padded * BLOCK_SIZE :][:, : 4 * BLOCK_SIZE].copy().view(np.float32)  # (blocks, 16)
    ids = data[:, -4 * BLOCK_SIZE :].copy().view(np.int32)
    vectors = codes.transpose(0, 2, 1, 3).reshape(-1, padded) * scales.reshape(-1, 1)
    return vectors[:, :dimension], ids.ravel()


@pytest.mark.parametrize(("count", "dimension"), [(0, 8), (1, 1), (16, 8), (17, 5), (50, 64)])
def test_vectors_and_ids_come_back(count: int, dimension: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)
    data = encode(vectors, np.arange(100, 100 + count, dtype=np.int32))
    assert data.shape == (-(-count // BLOCK_SIZE), block_size_bytes(dimension))
    decoded, ids = decode(data, dimension)
    assert ids[:count].tolist() == list(range(100, 100 + count))
    assert (ids[count:] == NO_ID).all()
    half_steps = np.abs(vectors).max(axis=1, keepdims=True) / 127 / 2
    assert (np.abs(decoded[:count] - vectors) <= half_steps * 1.0001).all()


def test_the_largest_number_of_a_vector_is_kept() -> None:
    vectors = np.array([[0.5, -0.25], [-3.0, 1.0], [0.0, 0.0]], np.float32)
    decoded, _ = decode(encode(vectors, np.arange(3, dtype=np.int32)), 2)
    np.testing.assert_allclose(decoded[:3], [[0.5, -0.25], [-3.0, 1.0], [0.0, 0.0]], atol=3 / 127 / 2)
    assert decoded[0, 0] == 0.5
    assert decoded[1, 0] == -3.0


def test_views_are_read_only() -> None:
    blocks = Blocks.of(encode(np.ones((1, 8), np.float32), np.zeros(1, np.int32)))
    assert not blocks.data.flags.writeable
    assert not blocks.ids.flags.writeable
