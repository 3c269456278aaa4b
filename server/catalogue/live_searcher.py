"""Nearest items of a generation whose catalogue has changed since it was built.

The index stays as it was built. Rows in it that changed, were deleted or are out of stock are left out of what it
finds; rows that changed or are new are searched exactly beside it; the two answers are merged. As long as nothing has
changed a search costs what the index's own costs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from index.searcher import CANDIDATE_COUNT_MAX, Rows, Scores, Searcher, check_queries
from server.catalogue.live_items import Delta, LiveItems

_DEEPER = 16
"""Places beyond what hidden rows are expected to take, so that a search again is rare."""


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
        found = search_visible(self._base, queries, k, delta) if delta.hidden_count else self._base.search(queries, k)
        if delta.searcher is None:
            return found
        scores, places = delta.searcher.search(queries, k)
        rows = np.where(places >= 0, delta.rows[np.maximum(places, 0)], np.int64(-1))
        return merged(*found, scores, rows, k)


def search_visible(base: Searcher, queries: npt.NDArray[np.float32], k: int, delta: Delta) -> tuple[Scores, Rows]:
    """The k best of the index's rows that are not hidden; asks for more than k, and again for those left short."""
    scores, rows = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    row_count_max = min(base.item_count, CANDIDATE_COUNT_MAX)
    share = delta.hidden_count / max(base.item_count, 1)
    depth = min(k + _DEEPER + int(2 * k * share / max(1 - share, 0.05)), max(row_count_max, k))
    left = np.arange(len(queries))
    while len(left):
        found_scores, found_rows = base.search(queries[left], depth)
        visible = (found_rows >= 0) & delta.allowed[np.maximum(found_rows, 0)]
        order = np.argsort(~visible, axis=1, kind="stable")[:, :k]  # visible ones first, best first
        kept = np.take_along_axis(visible, order, axis=1)
        scores[left] = np.where(kept, np.take_along_axis(found_scores, order, axis=1), -np.inf)
        rows[left] = np.where(kept, np.take_along_axis(found_rows, order, axis=1), -1)
        short = (visible.sum(axis=1) < k) & (found_rows[:, -1] >= 0)  # an index that gave fewer has no more
        if depth >= row_count_max:
            break
        left, depth = left[short], min(4 * depth, row_count_max)
    return scores, rows


def merged(scores: Scores, rows: Rows, more_scores: Scores, more_rows: Rows, k: int) -> tuple[Scores, Rows]:
    """The k best of two answers (B, k), which share no row; of equal scores the lower row first."""
    all_scores, all_rows = np.concatenate([scores, more_scores], axis=1), np.concatenate([rows, more_rows], axis=1)
    order = np.lexsort((all_rows, -all_scores), axis=1)[:, :k]
    best: Rows = np.take_along_axis(all_rows, order, axis=1)
    return np.take_along_axis(all_scores, order, axis=1), best
