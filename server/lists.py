"""The lists of one engine batch, as columns: what becomes bytes as it stands never becomes Python's objects.

A list's strings and numbers are made for whoever asks for them; the encoder asks where they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from index.item_ids import ItemIds, WrittenIds


class RowIds(Protocol):
    """What knows the ids of rows."""

    def ids(self, rows: NDArray[np.int32], /) -> list[str]:
        """The id of each row (n,)."""

    def written(self, rows: NDArray[np.int32], /) -> WrittenIds:
        """Where the ids of rows, of any shape, are written."""


class MadeList(NamedTuple):
    """One list, best first; the columns have the same length."""

    item_ids: list[str]
    scores: list[float]
    sources: list[int]


class ListColumns:
    """The lists of B queries, best first, in up to K places.

    Attributes:
        row_ids: what knows the ids of `rows`.
        rows: (B, K) int32 items. counts: (B,) how many places each list fills; what stands behind means nothing.
        scores: (B, K) float32. sources: (B, K) uint32, the bits of Source.
        encoded: what the encoder made of all of them at once, kept for the rest of the batch.
    """

    __slots__ = ("_made", "counts", "encoded", "row_ids", "rows", "scores", "sources")

    def __init__(
        self,
        row_ids: RowIds,
        rows: NDArray[np.int32],
        counts: NDArray[np.int64],
        scores: NDArray[np.float32],
        sources: NDArray[np.uint32],
    ) -> None:
        self.row_ids = row_ids
        self.rows = rows
        self.counts = counts
        self.scores = scores
        self.sources = sources
        self.encoded: Sequence[memoryview | None] | None = None
        self._made: Sequence[MadeList] | None = None

    @classmethod
    def of(cls, item_ids: Sequence[str], scores: Sequence[float], sources: Sequence[int]) -> ListColumns:
        """One list of its own. Raises ItemIdsError for an id that is empty or comes twice, ValueError for columns of
        different lengths."""
        count = len(item_ids)
        if not count == len(scores) == len(sources):
            raise ValueError(f"columns differ in length: {count} items, {len(scores)} scores, {len(sources)} sources")
        return cls(
            ItemIds.from_ids(item_ids),
            np.arange(count, dtype=np.int32)[None],
            np.array([count], np.int64),
            np.array([scores], np.float32),
            np.array([sources], np.uint32).reshape(1, count),
        )

    def made(self) -> Sequence[MadeList]:
        """Every list as Python's own objects, all made when the first is asked for."""
        if self._made is None:
            counts = self.counts.tolist()
            taken = np.arange(self.rows.shape[1]) < self.counts[:, None]
            ids, end, made = self.row_ids.ids(self.rows[taken]), 0, []
            for count, scores, sources in zip(counts, self.scores.tolist(), self.sources.tolist(), strict=True):
                end += count
                made.append(MadeList(ids[end - count : end], scores[:count], sources[:count]))
            self._made = made
        return self._made
