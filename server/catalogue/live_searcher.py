"""Nearest items of a generation whose catalogue has changed since it was built.

The index stays as it was built. Rows in it that changed, were deleted or are out of stock are left out of what it
finds; rows that changed or are new are searched exactly beside it; the two answers are merged. As long as nothing has
changed a search costs what the index's own costs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from index.filters.search import search_allowed
from index.searcher import Rows, Scores, Searcher, check_queries
from server.catalogue.live_items import Delta, LiveItems


class LiveSearcher:
    """A searcher over the retrievable rows of the live tables; for use within `with live:`."""

    def __init__(self, base: Searcher, live: LiveItems) -> None:
        self._base = base
        self._live = live

    @property
    def base(self) -> Searcher:
        """The generation's own searcher."""
        return self._base

    @property
    def item_count(self) -> int:
        """How many rows the generation's own index holds."""
        return self._base.item_count

    @property
    def dimension(self) -> int:
        """D of queries and items."""
        return self._base.dimension

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """The k best retrievable items of each query; see Searcher.search."""
        delta = self._live.delta
        if delta is None:
            return self._base.search(queries, k)
        check_queries(queries, k, self.dimension)
        if delta.hidden_count == 0:
            found = self._base.search(queries, k)
        else:
            count = self.item_count - delta.hidden_count
            found = search_allowed(self._base, self._live.vectors, queries, k, delta.allowed, count)
        return found if delta.columns is None else with_beside(found, queries @ delta.columns, delta.rows)

    def search_allowed(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        allowed: npt.NDArray[np.bool_],
        count: int,
        rows: npt.NDArray[np.integer] | None = None,
    ) -> tuple[Scores, Rows]:
        """The k best rows that a mask of retrievable rows allows; see index.filters.search_allowed."""
        delta, vectors = self._live.delta, self._live.vectors
        if delta is None:
            return search_allowed(self._base, vectors, queries, k, allowed, count, rows)
        check_queries(queries, k, self.dimension)
        indexed, count, rows = _of_the_index(delta, allowed, rows)
        found = search_allowed(self._base, vectors, queries, k, indexed, count, rows)
        beside = delta.rows[allowed[delta.rows]]
        return found if len(beside) == 0 else with_beside(found, queries @ vectors[beside].T, beside)


def _of_the_index(
    delta: Delta, allowed: npt.NDArray[np.bool_], rows: npt.NDArray[np.integer] | None
) -> tuple[npt.NDArray[np.bool_], int, npt.NDArray[np.integer] | None]:
    """What the index may find of the allowed rows: a mask, their number, and their list where there is one."""
    index_row_count = len(delta.allowed)
    indexed = allowed[:index_row_count] & delta.allowed
    if rows is None:
        return indexed, int(np.count_nonzero(indexed)), None
    rows = rows[: np.searchsorted(rows, index_row_count)]
    rows = rows[delta.allowed[rows]]
    return indexed, len(rows), rows


def with_beside(
    found: tuple[Scores, Rows], scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]
) -> tuple[Scores, Rows]:
    """The k best of what the index found (B, k) and of other rows (m,), whose scores are (B, m).

    Few of these come near the k best of a large index, so only those that do are sorted. Equal scores of the two keep
    the index's first.
    """
    better = scores > found[0][:, -1:]  # (B, m); where the index found fewer than k, all of them
    width = min(int(better.sum(axis=1).max(initial=0)), found[0].shape[1])
    if width == 0:
        return found
    hit = np.flatnonzero(better.any(axis=1))  # (h,) queries
    near = np.argpartition(-scores[hit], width - 1, axis=1)[:, :width]
    near.sort(axis=1)  # of equal scores the lower row first
    all_scores = np.concatenate([found[0][hit], np.take_along_axis(scores[hit], near, axis=1)], axis=1)
    all_rows = np.concatenate([found[1][hit], rows[near]], axis=1)  # (h, k + width)
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, : found[0].shape[1]]
    out_scores, out_rows = found[0].copy(), found[1].copy()
    out_scores[hit] = np.take_along_axis(all_scores, order, axis=1)
    out_rows[hit] = np.take_along_axis(all_rows, order, axis=1)
    return out_scores, out_rows
