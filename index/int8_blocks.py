"""Vectors of one byte a dimension, in blocks of 16 that vector registers score together.

A vector x is kept as codes c and one scale s: x ≈ s · c, s = max |x| / 127, c from -127 to 127. Inner products of codes
are sums of integers: exact, the same in any order and on any machine. A block holds its vectors interleaved, two
dimensions of each beside one another, as the instructions that multiply and add pairs want them (index.int8_dot).

Layout of a block, in bytes: D/2 groups of 16 vectors × 2 codes | 16 scales, float32 | 16 ids, int32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_SIZE = 16
"""Vectors of a block: the 32-bit lanes of a 512-bit register."""
NO_ID = -1
"""Where a list's last block is filled up."""
SUM_COUNT = 4
"""Sums that run side by side, each over two dimensions at a time: D is filled up with zeros to a multiple of eight."""
CODE_MAX = 127
"""Codes go from -127 to 127."""
TAIL_SIZE = 8
"""Bytes of a vector's scale and id."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Blocks:
    """Blocks of vectors: two views of the same bytes.

    Attributes:
        data: (blocks, bytes of a block) uint8. ids: (blocks, the same / 4) int32, whose last 16 columns are the ids.
    """

    data: Bytes
    ids: npt.NDArray[np.int32]

    @classmethod
    def of(cls, data: Bytes) -> Blocks:
        """Views of bytes as they lie in a file; read-only, so that kernels are compiled once for built and mapped."""
        views = data.view(), data.view(np.int32)
        for view in views:
            view.flags.writeable = False
        return cls(*views)


def block_size_bytes(dimension: int) -> int:
    """Bytes of a block of vectors of this dimension."""
    return (padded_dimension(dimension) + TAIL_SIZE) * BLOCK_SIZE


def padded_dimension(dimension: int) -> int:
    """The dimension that blocks and codes of queries have."""
    step = 2 * SUM_COUNT
    return -(-dimension // step) * step


def decode(data: Bytes, count: int, dimension: int) -> npt.NDArray[np.float32]:
    """The vectors (n, D) float32 that blocks of so many stand for, in the blocks' order."""
    padded = padded_dimension(dimension)
    pairs = data[:, : padded * BLOCK_SIZE].view(np.int8).reshape(len(data), padded // 2, BLOCK_SIZE, 2)
    codes = pairs.transpose(0, 2, 1, 3).reshape(len(data) * BLOCK_SIZE, padded)[:count, :dimension]
    tail = np.ascontiguousarray(data[:, padded * BLOCK_SIZE : (padded + 4) * BLOCK_SIZE])
    return codes * tail.view(np.float32).reshape(-1)[:count, None]


def encode(vectors: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]) -> Bytes:
    """Blocks (ceil(n / 16), bytes of a block) uint8 of vectors (n, D) under their ids; the last one is filled up."""
    count, dimension = vectors.shape
    padded = padded_dimension(dimension)
    block_count = -(-count // BLOCK_SIZE)
    scales = np.zeros(block_count * BLOCK_SIZE, np.float32)
    scales[:count] = np.abs(vectors).max(axis=1, initial=0) / CODE_MAX
    codes = np.zeros((len(scales), padded), np.int8)
    codes[:count, :dimension] = np.rint(vectors / np.where(scales[:count] > 0, scales[:count], 1)[:, None])
    all_ids = np.full(len(scales), NO_ID, np.int32)
    all_ids[:count] = ids
    pairs = codes.reshape(block_count, BLOCK_SIZE, padded // 2, 2).transpose(0, 2, 1, 3)  # (blocks, D/2, 16, 2)
    widths = padded * BLOCK_SIZE, 4 * BLOCK_SIZE, 4 * BLOCK_SIZE
    parts = (
        np.ascontiguousarray(part).view(np.uint8).reshape(block_count, width)
        for part, width in zip((pairs, scales, all_ids), widths, strict=True)
    )
    return np.concatenate(list(parts), axis=1)
