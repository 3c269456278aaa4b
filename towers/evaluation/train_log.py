"""What a baseline learns from: the train events of candidate items, as user × candidate matrices.

Columns stand in order of popularity (distinct users, then the lower item row), so a tie that goes to the lower
column goes to the more popular item: no epsilon, no chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from towers.evaluation.interactions import Interactions
from towers.evaluation.metrics import FloatArray, SparseRows
from towers.evaluation.protocol import TimeSplit

DAY_S = 86_400


@dataclass(frozen=True, eq=False)
class TrainLog:
    """Events (E,) of candidate items before the cut; C candidates in order of popularity."""

    user_row: npt.NDArray[np.int32]  # (E,)
    column: npt.NDArray[np.int32]  # (E,) place in candidate_rows
    age_days: FloatArray  # (E,) before the moment that is asked about
    user_count: int
    candidate_rows: npt.NDArray[np.int32]  # (C,) item row of each column
    candidate_users: npt.NDArray[np.int64]  # (C,) distinct users, descending

    def counts(self) -> SparseRows:
        """CSR (user_count, C): how many events the user has with the item."""
        return self.weighted(np.ones(len(self.user_row)))

    def decayed_counts(self, half_life_days: float) -> SparseRows:
        """CSR (user_count, C): the same, an event weighing 1 at the cut and half of it every half-life before."""
        return self.weighted(self.decay(half_life_days))

    def decay(self, half_life_days: float) -> FloatArray:
        """Weight (E,) of each event by its age."""
        weights: FloatArray = np.exp2(-self.age_days / half_life_days)
        return weights

    def weighted(self, weights: FloatArray) -> SparseRows:
        """CSR (user_count, C) float64: weights (E,) summed over the events of each pair."""
        shape = (self.user_count, len(self.candidate_rows))
        matrix = csr_array((weights, (self.user_row, self.column)), shape=shape)
        matrix.sum_duplicates()
        return matrix


def train_log(split: TimeSplit) -> TrainLog:
    """The train part of a split, seen from the moment that its evaluation set asks about."""
    train, candidates = split.train, split.evaluation_set.candidate_rows
    users_of_item = np.bincount(train.distinct_pairs().indices, minlength=train.item_count)  # (item_count,)
    by_popularity = candidates[np.lexsort((candidates, -users_of_item[candidates]))]  # (C,)
    column_of_item = np.full(train.item_count, -1, dtype=np.int32)
    column_of_item[by_popularity] = np.arange(len(by_popularity), dtype=np.int32)
    events: Interactions = train.where(column_of_item[train.item_row] >= 0)
    return TrainLog(
        user_row=events.user_row,
        column=column_of_item[events.item_row],
        age_days=(split.evaluation_set.asked_at_s - events.time_s) / DAY_S,
        user_count=train.user_count,
        candidate_rows=by_popularity,
        candidate_users=users_of_item[by_popularity],
    )
