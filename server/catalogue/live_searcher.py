"""Nearest items of a generation whose catalogue has changed since it was built.

The index stays as it was built. Rows in it that changed, were deleted or are out of stock are left out of what it
finds; rows that changed or are new are searched exactly beside it; the two answers are merged. As long as nothing has
changed a search costs what the index's own costs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from index.exact import select_best
from index.filters.search import search_allowed
from index.searcher import Rows, Scores, Searcher, check_queries, empty_answer
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
        return (
            found if delta.searcher is None else merged(found, _placed(delta.searcher.search(queries, k), delta.rows))
        )

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
        if len(beside) == 0:
            return found
        scores, places = empty_answer(len(queries), k)
        select_best(queries @ vectors[beside].T, scores, places)
        return merged(found, _placed((scores, places), beside))


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


def _placed(answer: tuple[Scores, Rows], rows: npt.NDArray[np.int64]) -> tuple[Scores, Rows]:
    """An answer in places of a list of rows, as rows."""
    scores, places = answer
    return scores, np.where(places >= 0, rows[np.maximum(places, 0)], np.int64(-1))


def merged(one: tuple[Scores, Rows], other: tuple[Scores, Rows]) -> tuple[Scores, Rows]:
    """The k best of two answers (B, k), which share no row; of equal scores the lower row first."""
    scores = np.concatenate([one[0], other[0]], axis=1)  # (B, 2k)
    rows = np.concatenate([one[1], other[1]], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, : one[0].shape[1]]
    best: Rows = np.take_along_axis(rows, order, axis=1)
    return np.take_along_axis(scores, order, axis=1), best
