"""Ratings: how well a rating can be foretold, for shops that have them; RMSE on the time after the split.

The yardstick is the damped bias model (Koren, Bell and Volinsky 2009, eq. 1): mean + user's bias + item's bias, each
shrunk towards zero by `DAMPING` ratings. A model with a rating head must beat it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towers.evaluation.predictions import rmse
from towers.schema import Dataset

DAMPING = 5.0


@dataclass(frozen=True, slots=True)
class RatingBiases:
    """mean: the mean rating. user (U,), item (I,): damped deviations from it, 0 for those without a rating."""

    mean: float
    user: NDArray[np.float64]
    item: NDArray[np.float64]

    def predict(self, user_row: NDArray[np.int32], item_row: NDArray[np.int32]) -> NDArray[np.float64]:
        """(n,) foretold ratings."""
        return np.asarray(self.mean + self.user[user_row] + self.item[item_row], np.float64)


def fit_biases(
    user_row: NDArray[np.int32],
    item_row: NDArray[np.int32],
    rating: NDArray[np.float64],
    user_count: int,
    item_count: int,
) -> RatingBiases:
    """Items first, then users on what is left. Raises ValueError without any rating."""
    if len(rating) == 0:
        raise ValueError("no rating to learn from")
    mean = float(rating.mean())
    item = _damped(item_row, rating - mean, item_count)
    user = _damped(user_row, rating - mean - item[item_row], user_count)
    return RatingBiases(mean, user, item)


def rating_rmse(dataset: Dataset, train_end_s: int) -> dict[str, float] | None:
    """RMSE of the biases and of the mean alone on the ratings from `train_end_s` on; None where a side has none."""
    events = dataset.events
    rated = ~np.isnan(events.rating)
    before, after = rated & (events.time_s < train_end_s), rated & (events.time_s >= train_end_s)
    if not before.any() or not after.any():
        return None
    learned, asked = events.rating[before].astype(np.float64), events.rating[after].astype(np.float64)
    biases = fit_biases(
        events.user_row[before], events.item_row[before], learned, dataset.user_count, dataset.item_count
    )
    foretold = biases.predict(events.user_row[after], events.item_row[after])
    return {
        "ratings": float(after.sum()),
        "rmse_of_biases": rmse(foretold, asked),
        "rmse_of_mean": rmse(np.full(len(asked), biases.mean), asked),
    }


def _damped(row: NDArray[np.int32], deviation: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    total = np.bincount(row, weights=deviation, minlength=count)
    return np.asarray(total / (np.bincount(row, minlength=count) + DAMPING), np.float64)
