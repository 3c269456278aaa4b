"""The baselines that every model is compared with, behind one interface.

A `Baseline` is a function: it fits on a train log and gives a `Recommender`. Baselines differ in their scores only;
leaving out what was bought, ties and the choice of the best are one code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from towers.evaluation.metrics import SparseRows
from towers.evaluation.top_columns import NOT_RECOMMENDED, top_columns
from towers.evaluation.train_log import TrainLog

HALF_LIFE_DAYS = 60.0
SCORES_IN_MEMORY_MAX = 2**21  # scores held at once: 8 MiB

ScoreArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.int32]


class Scorer(Protocol):
    """A fitted baseline, seen from inside."""

    def scores(self, users: RowArray) -> ScoreArray:
        """Scores (B, C) of the log's columns for user rows (B,), a new array; NOT_RECOMMENDED where there is none."""
        ...


@dataclass(frozen=True, eq=False)
class Recommender:
    """A fitted baseline: ranked lists for any users of the log."""

    log: TrainLog
    scorer: Scorer

    def recommend(self, users: RowArray, k: int, *, exclude_bought: bool) -> RowArray:
        """Item rows (U, k) for user rows (U,), best first, padded with -1.

        Ties go to the item with more distinct users in train, then to the lower item row.
        """
        bought = self.log.counts() if exclude_bought else None
        block = max(1, SCORES_IN_MEMORY_MAX // len(self.log.candidate_rows))
        lists = [np.empty((0, k), dtype=np.int32)]
        for start in range(0, len(users), block):
            asked = users[start : start + block]
            scores = self.scorer.scores(asked)  # (B, C)
            if bought is not None:
                places = bought[asked].tocoo()
                scores[places.row, places.col] = NOT_RECOMMENDED
            columns = top_columns(scores, k)  # (B, k)
            lists.append(np.where(columns >= 0, self.log.candidate_rows[columns], np.int32(-1)))
        return np.concatenate(lists)


Baseline = Callable[[TrainLog], Recommender]


@dataclass(frozen=True, eq=False)
class SameForAll:
    """The same scores (C,) for every user."""

    item_scores: ScoreArray

    def scores(self, users: RowArray) -> ScoreArray:
        """Scores (B, C)."""
        return np.tile(self.item_scores, (len(users), 1))


@dataclass(frozen=True, eq=False)
class OwnHistory:
    """What the user did with the item; items that they never had tie at 0, so popularity orders them."""

    matrix: SparseRows  # CSR (user_count, C)

    def scores(self, users: RowArray) -> ScoreArray:
        """Scores (B, C)."""
        dense: ScoreArray = self.matrix[users].toarray().astype(np.float32)
        return dense


def popularity(log: TrainLog) -> Recommender:
    """Most distinct users first."""
    return Recommender(log, SameForAll(log.candidate_users.astype(np.float32)))


def recent_popularity(log: TrainLog, half_life_days: float = HALF_LIFE_DAYS) -> Recommender:
    """Most events first, an event losing half of its weight every half-life."""
    weights = np.bincount(log.column, weights=log.decay(half_life_days), minlength=len(log.candidate_rows))
    return Recommender(log, SameForAll(weights.astype(np.float32)))


def personal_frequency(log: TrainLog) -> Recommender:
    """What the user bought most often (in events), then what is popular."""
    return Recommender(log, OwnHistory(log.counts()))


def decayed_frequency(log: TrainLog, half_life_days: float = HALF_LIFE_DAYS) -> Recommender:
    """Personal frequency, an event losing half of its weight every half-life."""
    return Recommender(log, OwnHistory(log.decayed_counts(half_life_days)))
