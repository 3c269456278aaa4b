"""Exact search in numpy: the oracle of every other searcher. What serves small catalogues is `index.int8_exact`.

Selecting the k best of n scores costs more than computing them, so the selection looks at few of them. The scores of a
query are split into W ≥ k groups and each group's maximum is taken. Let t be the k-th largest maximum. At least k items
score t or more (those maxima), so the k best all do: they are among the items ≥ t, which are few.

The vectors are held transposed, (D, n): B small queries against it run in half the time of (n, D).
docs/decisions/0009 compares it with faiss.IndexFlatIP.

The threads are those of numpy's BLAS (`OPENBLAS_NUM_THREADS`, read when numpy is imported), not those of FAISS.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from index.searcher import Rows, Scores, check_queries, check_vectors, empty_answer

_GROUP_SIZE_MAX = 16
_GROUPS_PER_CANDIDATE_MIN = 4
"""Fewer groups than this a candidate, and too many items pass the threshold."""
_SCORES_SIZE_BYTES_MAX = 64 * 2**20
"""The score matrix of one pass; a larger batch is answered in several passes."""
_QUERIES_ONE_BY_ONE_MAX = 3
"""Up to here matrix × vector for each query is faster than one small matrix × matrix."""


class ExactSearcher:
    """Every item is scored; ties go to the lower row."""

    def __init__(self, vectors: npt.NDArray[np.float32]) -> None:
        """`vectors` is (n, D) float32; a transposed copy is kept. Raises VectorsInvalid."""
        check_vectors(vectors)
        self._columns = np.ascontiguousarray(vectors.T)  # (D, n)

    @classmethod
    def from_columns(cls, columns: npt.NDArray[np.float32]) -> ExactSearcher:
        """Take the items as columns, (D, n) float32 C-contiguous, without a copy: a memory-mapped array stays one."""
        check_vectors(columns.T)
        searcher = cls.__new__(cls)
        searcher._columns = np.ascontiguousarray(columns)
        return searcher

    @property
    def columns(self) -> npt.NDArray[np.float32]:
        """The items as columns, (D, n) float32."""
        return self._columns

    @property
    def item_count(self) -> int:
        """n."""
        return int(self._columns.shape[1])

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._columns.shape[0])

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """The k best items of each query, exactly; see Searcher.search."""
        check_queries(queries, k, self.dimension)
        scores, rows = empty_answer(len(queries), k)
        if self.item_count == 0:
            return scores, rows
        query_count_max = max(1, _SCORES_SIZE_BYTES_MAX // (4 * self.item_count))
        for start in range(0, len(queries), query_count_max):
            part = slice(start, start + query_count_max)
            select_best(self._score(queries[part]), scores[part], rows[part])
        return scores, rows

    def search_allowed(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_]
    ) -> tuple[Scores, Rows]:
        """The k best allowed items of each query, exactly; `allowed` (n,): whether each row may be found."""
        check_queries(queries, k, self.dimension)
        scores, rows = empty_answer(len(queries), k)
        hidden = ~allowed
        query_count_max = max(1, _SCORES_SIZE_BYTES_MAX // (4 * max(1, self.item_count)))
        for start in range(0, len(queries) if self.item_count else 0, query_count_max):
            part = slice(start, start + query_count_max)
            every = self._score(queries[part])
            np.copyto(every, np.float32(-np.inf), where=hidden)
            select_best(every, scores[part], rows[part])
        rows[scores == -np.inf] = -1
        return scores, rows

    def _score(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if len(queries) > _QUERIES_ONE_BY_ONE_MAX:
            return queries @ self._columns  # (B, n)
        scores = np.empty((len(queries), self.item_count), np.float32)
        for query, line in zip(queries, scores, strict=True):
            np.matmul(query, self._columns, out=line)
        return scores


def select_best(all_scores: npt.NDArray[np.float32], scores: Scores, rows: Rows) -> None:
    """Write the k best of (B, n) into scores (B, k) and rows (B, k), ties to the lower row."""
    item_count = all_scores.shape[1]
    taken = min(scores.shape[1], item_count)
    thresholds = _thresholds(all_scores, taken)
    for at, (line, threshold) in enumerate(zip(all_scores, thresholds, strict=True)):
        candidates = np.flatnonzero(line >= threshold)  # ascending rows
        best = np.argsort(-line[candidates], kind="stable")[:taken]
        rows[at, :taken] = candidates[best]
        scores[at, :taken] = line[candidates[best]]


def _thresholds(all_scores: npt.NDArray[np.float32], taken: int) -> npt.NDArray[np.float32]:
    """A score (B,) of each query that at least `taken` items reach."""
    query_count, item_count = all_scores.shape
    if taken == item_count:
        return np.full(query_count, -np.inf, np.float32)
    group_size = min(_GROUP_SIZE_MAX, max(1, item_count // (_GROUPS_PER_CANDIDATE_MIN * taken)))
    group_count = item_count // group_size
    grouped = all_scores[:, : group_size * group_count].reshape(query_count, group_size, group_count)
    maxima = grouped.max(axis=1)  # (B, W): a group is every W-th item, so that the maximum runs along memory
    return np.partition(maxima, group_count - taken, axis=1)[:, group_count - taken]
