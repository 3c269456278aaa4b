"""The best columns of a block of scores, ties going to the lower column: no dependence on how numpy orders equals.

Sorting 24,000 scores for 20 places is waste. The k-th highest of the maxima of small groups is a score that at least
k columns reach, so only the columns that reach it are sorted: about k of them, more only where there are ties.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NOT_RECOMMENDED = np.float32(-np.inf)  # a score that never reaches a list

GROUP_WIDTH = 16


def top_columns(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Columns (B, k) of the highest scores (B, C), best first; -1 where fewer than k are recommended.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    row_count, column_count = scores.shape
    survivors = np.flatnonzero(scores >= _reached_by_k(scores, k)[:, None])
    rows, columns = np.divmod(survivors, column_count)
    order = np.lexsort((columns, -scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    starts = np.searchsorted(rows, np.arange(row_count))  # (B,)
    places = np.arange(len(rows)) - starts[rows]  # 0-based place of each survivor in its row's list
    listed = (places < k) & (scores[rows, columns] != NOT_RECOMMENDED)
    best = np.full((row_count, k), -1, dtype=np.int64)
    best[rows[listed], places[listed]] = columns[listed]
    return best


def _reached_by_k(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    """For each row (B,) a score that at least k of its columns reach; -inf when there are too few groups to tell."""
    row_count, column_count = scores.shape
    group_count = column_count // GROUP_WIDTH
    if group_count < k:
        return np.full(row_count, NOT_RECOMMENDED)
    groups = scores[:, : group_count * GROUP_WIDTH].reshape(row_count, group_count, GROUP_WIDTH)
    maxima = groups.max(axis=2)  # (B, G)
    threshold: npt.NDArray[np.float32] = np.partition(maxima, group_count - k, axis=1)[:, group_count - k]
    return threshold
