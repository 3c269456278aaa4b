"""Exact search that begins in int8: what cannot be among the best is never looked at in float32.

Every item is scored by integers first (index.int8_dot), each block of 16 once for all queries of a batch. Two bounds
make an exact answer of that. An item's score s and what int8 says of it, s', differ by ε at most: for a query
q = q' + e and an item v = v' + f, |s - s'| ≤ ‖e‖ · ‖v‖ + ‖q'‖ · ‖f‖. And the k-th largest of the blocks' best scores,
t, is reached by k items at least, so that the k-th best score is t - ε or more. Hence none of the k best has s' below
t - 2 ε; what reaches it, about twice k, is scored in float32.

Errors: IndexFileInvalid (index.searcher), for a file that is no such index or contradicts itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from index.compiled import kernel
from index.int8_blocks import BLOCK_SIZE, TAIL_SIZE, Blocks, block_size_bytes, decode, encode
from index.int8_dot import QUERIES_SIDE_BY_SIDE, best_of_block, dot_row, prefetch_block, quantise, score_block
from index.int8_kernels import BIN_COUNT, best_of, span
from index.mapped_tensors import TensorFileInvalid, open_tensors
from index.searcher import IndexFileInvalid, Rows, Scores, check_queries, check_vectors, empty_answer

_VECTORS, _BLOCKS, _NORMS = "vectors", "blocks", "largest_norms"
_SLACK = 1e-5
"""Of ‖q‖ · ‖v‖, for the rounding of float32 sums."""
_HALF_STEP = 0.51
"""What rounding to a step may lose of one coordinate, in steps."""
_AHEAD = 8
"""How many vectors ahead of its use one is asked for."""


class Int8ExactSearcher:
    """Every item is scored, in int8 or better; the answer is that of float32. Ties go to the lower row."""

    def __init__(
        self, vectors: npt.NDArray[np.float32], blocks: Blocks, norm_max: float, error_norm_max: float
    ) -> None:
        """`vectors` (n, D); `blocks` of the same; the largest norm of a vector, and of what int8 loses of one.

        Raises IndexFileInvalid when they do not fit together.
        """
        wanted = (-(-len(vectors) // BLOCK_SIZE), block_size_bytes(vectors.shape[1]))
        if blocks.data.shape != wanted:
            raise IndexFileInvalid(
                f"blocks have the shape {blocks.data.shape}, the vectors {vectors.shape} ask for {wanted}"
            )
        self._vectors = np.ascontiguousarray(vectors).view()
        self._vectors.flags.writeable = False  # one type for built and mapped, so that kernels are compiled once
        self._blocks = blocks
        self._norm_max, self._error_norm_max = norm_max, error_norm_max

    @classmethod
    def of(cls, vectors: npt.NDArray[np.float32]) -> Int8ExactSearcher:
        """Over vectors (n, D) float32. Raises VectorsInvalid."""
        check_vectors(vectors)
        blocks = Blocks.of(encode(vectors, np.arange(len(vectors), dtype=np.int32)))
        lost = vectors - decode(blocks.data, *vectors.shape)
        return cls(vectors, blocks, _norm_max(vectors), _norm_max(lost))

    @classmethod
    def open(cls, path: Path) -> Int8ExactSearcher:
        """Map a searcher from a file whose checksum has been verified. Raises IndexFileInvalid, OSError."""
        try:
            tensors = open_tensors(path)
            for name, kind, axes in ((_VECTORS, "f4", 2), (_BLOCKS, "u1", 2), (_NORMS, "f8", 1)):
                if tensors[name].dtype != kind or tensors[name].ndim != axes:
                    found = tensors[name]
                    raise IndexFileInvalid(f"{path}: {name} has shape {found.shape} and type {found.dtype}")
            norm_max, error_norm_max = tensors[_NORMS].tolist()
            return cls(tensors[_VECTORS], Blocks.of(tensors[_BLOCKS]), norm_max, error_norm_max)
        except (TensorFileInvalid, KeyError, ValueError) as error:
            raise IndexFileInvalid(f"{path} holds no exact int8 index: {error}") from error

    def save(self, path: Path) -> None:
        """Write vectors and blocks."""
        norms = np.array([self._norm_max, self._error_norm_max])
        tensors: dict[str, npt.NDArray[Any]] = {_VECTORS: self._vectors, _BLOCKS: self._blocks.data, _NORMS: norms}
        save_file(tensors, path)

    @property
    def item_count(self) -> int:
        """n."""
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._vectors.shape[1])

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """The k best items of each query, exactly; see Searcher.search."""
        check_queries(queries, k, self.dimension)
        scores, rows = empty_answer(len(queries), k)
        if len(queries) and self.item_count:
            _search(
                np.ascontiguousarray(queries),
                self._vectors,
                self._blocks.data,
                self._norm_max,
                self._error_norm_max,
                scores,
                rows,
            )
        return scores, rows


def _norm_max(vectors: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0)))


@kernel
def _search(
    queries: Any, vectors: Any, blocks: Any, norm_max: Any, error_norm_max: Any, scores: Any, rows: Any
) -> None:  # fmt: skip
    """Writes the k best items of queries (B, D) to scores (B, k), descending, and rows (B, k), B and n ≥ 1.

    `vectors` (n, D) float32, `blocks` (·, bytes of a block) uint8. Places that no item fills stay as they are.
    """
    query_count, block_count, item_count = len(queries), len(blocks), len(vectors)
    codes = np.empty((query_count, blocks.shape[1] // BLOCK_SIZE - TAIL_SIZE), np.int16)
    steps = np.empty(query_count, np.float32)
    best, line = np.empty((query_count, block_count), np.float32), np.empty(BLOCK_SIZE, np.float32)
    last_size = item_count - (block_count - 1) * BLOCK_SIZE
    for at in range(query_count):
        steps[at] = quantise(queries[at], codes[at])
    together = query_count // QUERIES_SIDE_BY_SIDE * QUERIES_SIDE_BY_SIDE
    for block in range(block_count):
        for at in range(0, together, QUERIES_SIDE_BY_SIDE):
            best_of_block(blocks, block, codes, at, best)
        for at in range(together, query_count):
            best[at, block] = score_block(blocks, block, codes[at], line, 0)
    for at in range(query_count):  # what the last block is filled up with counts for nothing
        score_block(blocks, block_count - 1, codes[at], line, 0)
        best[at, block_count - 1] = line[:last_size].max()
    k = min(scores.shape[1], item_count)
    bins, smallest = np.empty(BIN_COUNT + 1, np.int32), np.empty(BIN_COUNT, np.float32)
    candidates, keys = np.empty(item_count, np.int64), np.empty(item_count, np.int64)
    found = np.empty(item_count, np.float32)
    for at in range(query_count):
        reached = _reached_by(best[at], k, bins, smallest)
        least = _not_above(reached - 2 * _uncertainty(queries[at], steps[at], norm_max, error_norm_max))
        count = 0
        for block in range(block_count):
            if best[at, block] < least:
                continue
            score_block(blocks, block, codes[at], line, 0)
            for lane in range(BLOCK_SIZE if block + 1 < block_count else last_size):
                if line[lane] >= least:
                    candidates[count] = block * BLOCK_SIZE + lane
                    count += 1
        for place in range(count):
            if place + _AHEAD < count:
                prefetch_block(vectors, candidates[place + _AHEAD])
            found[place] = dot_row(vectors, candidates[place], queries[at])
        best_of(found[:count], candidates, bins, keys, scores[at, :k], rows[at, :k])


@kernel
def _uncertainty(query: Any, step: Any, norm_max: Any, error_norm_max: Any) -> Any:
    """By how much a float32 score and what int8 says may differ, in steps of the query's codes."""
    square = 0.0
    for value in query:
        square += np.float64(value) * value
    norm, lost = np.sqrt(square), _HALF_STEP * step * np.sqrt(len(query))
    return (lost * norm_max + (norm + lost) * error_norm_max + _SLACK * norm * norm_max) / step


@kernel
def _not_above(bound: Any) -> Any:
    """The bound as a float32, which is what scores are compared as; rounded down."""
    rounded = np.float32(bound)
    return np.nextafter(rounded, np.float32(-np.inf)) if rounded > bound else rounded


@kernel
def _reached_by(best: Any, k: Any, bins: Any, smallest: Any) -> Any:
    """A score that the best of k blocks at least reach, about the k-th largest; -inf where there are fewer blocks."""
    if len(best) < k:
        return -np.inf
    least, most = span(best)
    last_bin = np.float32(len(smallest) - 1)
    factor = last_bin / (most - least) if most > least else np.float32(0)
    bins[:], smallest[:] = 0, np.inf
    for score in best:
        bin_at = np.int32(min((most - score) * factor, last_bin))
        bins[bin_at] += 1
        smallest[bin_at] = min(smallest[bin_at], score)
    end, count = 0, bins[0]
    reached = np.float64(smallest[0])
    while count < k:
        end += 1
        count += bins[end]
        reached = min(reached, np.float64(smallest[end]))
    return reached


def warm() -> None:
    """Compiles the search, or loads what was compiled, for a process that forks others."""
    Int8ExactSearcher.of(np.ones((1, 1), np.float32)).search(np.ones((1, 1), np.float32), 1)
