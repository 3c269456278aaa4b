"""What every searcher offers, and the checks that all of them make.

Errors:
    ValueError
    └── SearchError
        ├── QueryInvalid            shape, dtype or a value that is not finite
        ├── CandidateCountInvalid   k is not in [1, CANDIDATE_COUNT_MAX]
        ├── VectorsInvalid          the items' vectors cannot be indexed
        └── IndexFileInvalid        a file holds no index, one of the wrong metric, or one that contradicts itself
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

CANDIDATE_COUNT_MAX = 100_000
"""k of one search: far above any list that is ranked, and a wrong k cannot take all memory."""

Scores = npt.NDArray[np.float32]
"""(B, k) inner products, descending; -inf where there is no item."""
Rows = npt.NDArray[np.int64]
"""(B, k) item rows; -1 where there is no item."""


class SearchError(ValueError):
    """Base of everything that a searcher refuses."""


class QueryInvalid(SearchError):
    """Queries of the wrong shape or dtype, or with NaN or infinity."""


class CandidateCountInvalid(SearchError):
    """A k that no search can have."""


class VectorsInvalid(SearchError):
    """Item vectors of the wrong shape, or with NaN or infinity."""


class IndexFileInvalid(SearchError):
    """A file that holds no index that can be searched here."""


class Searcher(Protocol):
    """The items with the largest inner product with a query."""

    @property
    def item_count(self) -> int:
        """How many items are searched: rows 0 … item_count - 1."""

    @property
    def dimension(self) -> int:
        """D of queries and items."""

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """The k best items of each query.

        `queries` is (B, D) float32. Returns scores (B, k) float32, descending, and rows (B, k) int64; places that no
        item fills (k above the number of items found) hold -inf and -1, and are the last of their line.

        Raises QueryInvalid, CandidateCountInvalid.
        """


def check_queries(queries: npt.NDArray[Any], k: int, dimension: int) -> None:
    """Refuse what a search cannot answer, naming the value."""
    if not isinstance(queries, np.ndarray) or queries.ndim != 2:
        raise QueryInvalid(f"queries must be an array (B, {dimension}), not {_shape(queries)}")
    if queries.shape[1] != dimension:
        raise QueryInvalid(f"queries have dimension {queries.shape[1]}, the index has {dimension}")
    if queries.dtype != np.float32:
        raise QueryInvalid(f"queries must be float32, not {queries.dtype}")
    if not 1 <= k <= CANDIDATE_COUNT_MAX:
        raise CandidateCountInvalid(f"k is {k}; it must be from 1 to {CANDIDATE_COUNT_MAX}")
    finite = np.isfinite(queries)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise QueryInvalid(f"query {row} has {queries[row, column]} at position {column}")


def check_vectors(vectors: npt.NDArray[Any]) -> None:
    """Refuse item vectors that cannot be indexed, naming the row and the value."""
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.shape[1] == 0:
        raise VectorsInvalid(f"item vectors must be an array (n, D) with D of at least 1, not {_shape(vectors)}")
    if vectors.dtype != np.float32:
        raise VectorsInvalid(f"item vectors must be float32, not {vectors.dtype}")
    finite_rows = np.isfinite(vectors).all(axis=1)
    if not finite_rows.all():
        row = int(np.argmin(finite_rows))
        raise VectorsInvalid(
            f"the vector of item row {row} is not finite: {vectors[row][~np.isfinite(vectors[row])][0]}"
        )


def empty_answer(query_count: int, k: int) -> tuple[Scores, Rows]:
    """An answer without items: scores (B, k) of -inf, rows (B, k) of -1."""
    return np.full((query_count, k), -np.inf, np.float32), np.full((query_count, k), -1, np.int64)


def _shape(value: object) -> str:
    return f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
