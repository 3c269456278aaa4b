"""The log that evaluation and baselines look at: who bought (or whatever the shop's target is) what, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from towers.evaluation.metrics import SparseRows
from towers.schema import Dataset


@dataclass(frozen=True, eq=False)
class Interactions:
    """Target events as three arrays (E,) in any order; rows are those of the dataset's tables."""

    user_row: npt.NDArray[np.int32]  # (E,)
    item_row: npt.NDArray[np.int32]  # (E,)
    time_s: npt.NDArray[np.int64]  # (E,) seconds since the epoch, UTC
    user_count: int
    item_count: int

    def __len__(self) -> int:
        return len(self.user_row)

    def where(self, mask: npt.NDArray[np.bool_]) -> Interactions:
        """The events where mask (E,) is true, in the same order."""
        return Interactions(
            self.user_row[mask], self.item_row[mask], self.time_s[mask], self.user_count, self.item_count
        )

    def distinct_pairs(self) -> SparseRows:
        """CSR (user_count, item_count), 1 where the user has at least one event with the item."""
        ones = np.ones(len(self), dtype=np.float32)
        pairs = csr_array((ones, (self.user_row, self.item_row)), shape=(self.user_count, self.item_count))
        pairs.sum_duplicates()
        pairs.data[:] = 1.0
        return pairs


def target_interactions(dataset: Dataset) -> Interactions:
    """The dataset's events of its target types (for a grocer: purchases)."""
    events, meta = dataset.events, dataset.meta
    codes = [meta.event_types.index(name) for name in meta.target_event_types]
    mask = np.isin(events.event_type, codes)
    return Interactions(
        events.user_row[mask], events.item_row[mask], events.time_s[mask], dataset.user_count, dataset.item_count
    )
