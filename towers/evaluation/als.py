"""Matrix factorisation by alternating least squares for implicit feedback (Hu, Koren, Volinsky 2008), with `implicit`.

Two settings, both found as docs/log.md tells: PUBLISHED gives the figures that the demo's protocol was published with,
TUNED is the best one on the validation month.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from towers.evaluation.baselines import HALF_LIFE_DAYS, OwnHistory, Recommender, RowArray, ScoreArray
from towers.evaluation.train_log import TrainLog

THREAD_COUNT = 2


@dataclass(frozen=True)
class AlsSettings:
    """What the factorisation is fitted with; a pair weighs alpha · its count, a pair without events 1."""

    factors: int = 128
    alpha: float = 4.0
    regularization: float = 0.05
    iterations: int = 15
    seed: int = 0


PUBLISHED = AlsSettings()
TUNED = AlsSettings(alpha=1.0, regularization=30.0)


@dataclass(frozen=True, eq=False)
class Factors:
    """Inner products of user and item factors."""

    user_factors: ScoreArray  # (user_count, F)
    item_factors: ScoreArray  # (F, C)

    def scores(self, users: RowArray) -> ScoreArray:
        """Scores (B, C)."""
        dense: ScoreArray = self.user_factors[users] @ self.item_factors
        return dense


@dataclass(frozen=True, eq=False)
class FactorsPlusHistory:
    """The factors' score (about 0 to 1) plus the user's decayed count."""

    factors: Factors
    history: OwnHistory

    def scores(self, users: RowArray) -> ScoreArray:
        """Scores (B, C)."""
        return self.factors.scores(users) + self.history.scores(users)


def als(log: TrainLog, settings: AlsSettings = PUBLISHED) -> Recommender:
    """ALS on the counts of events."""
    return Recommender(log, fit_factors(log, settings))


def als_decayed_frequency(
    log: TrainLog, settings: AlsSettings = PUBLISHED, half_life_days: float = HALF_LIFE_DAYS
) -> Recommender:
    """Sum of the scores of `als` and of `decayed_frequency`."""
    return plus_decayed_frequency(log, fit_factors(log, settings), half_life_days)


def plus_decayed_frequency(log: TrainLog, factors: Factors, half_life_days: float = HALF_LIFE_DAYS) -> Recommender:
    """The same on factors that are fitted already."""
    return Recommender(log, FactorsPlusHistory(factors, OwnHistory(log.decayed_counts(half_life_days))))


def fit_factors(log: TrainLog, settings: AlsSettings = PUBLISHED) -> Factors:
    """User and item factors; the same for the same log and settings."""
    counts = csr_matrix(log.counts().astype(np.float32))
    with threadpool_limits(limits=1, user_api="blas"):  # implicit runs threads of its own, and warns of BLAS's
        model = AlternatingLeastSquares(
            factors=settings.factors,
            alpha=settings.alpha,
            regularization=settings.regularization,
            iterations=settings.iterations,
            random_state=settings.seed,
            num_threads=THREAD_COUNT,
            use_gpu=False,
        )
        model.fit(counts, show_progress=False)
    return Factors(model.user_factors, np.ascontiguousarray(model.item_factors.T))
