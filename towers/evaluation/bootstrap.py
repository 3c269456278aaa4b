"""Bootstrap confidence intervals over users (Efron 1979, percentile method), seeded and vectorised.

Drawing U users with replacement is drawing one multinomial vector of U counts, so a block of resamples is one matrix
product (R, U) @ (U, M), and all metrics of all models on the same users see the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from towers.evaluation.metrics import FloatArray

DRAWS_IN_MEMORY_MAX = 2**23  # counts held at once: 64 MiB


@dataclass(frozen=True)
class Interval:
    """A mean over users and the interval that holds it at the asked level."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int = 1000
    level: float = 0.95
    seed: int = 20171201

    def intervals(self, values: Mapping[str, FloatArray]) -> dict[str, Interval]:
        """Interval of the mean of each array (U,), all on the same draws of users.

        Raises:
            ValueError: the arrays differ in length or are empty.
        """
        lengths = {len(array) for array in values.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"expected arrays over the same users, got lengths {sorted(lengths)}")
        columns = np.stack(list(values.values()), axis=1)  # (U, M)
        means = self._resampled_means(columns)  # (R, M)
        tail = (1.0 - self.level) / 2.0
        lows, highs = np.quantile(means, [tail, 1.0 - tail], axis=0)  # (M,) each
        centres = columns.mean(axis=0)
        return {
            name: Interval(float(centres[place]), float(lows[place]), float(highs[place]))
            for place, name in enumerate(values)
        }

    def paired_difference(self, first: FloatArray, second: FloatArray) -> Interval:
        """Interval of mean(first - second), both (U,) over the same users in the same order.

        The pairing removes what makes users differ from each other: it tells two models apart where their own
        intervals overlap.
        """
        if first.shape != second.shape:
            raise ValueError(f"pairs need the same users: {first.shape} and {second.shape}")
        return self.intervals({"difference": first - second})["difference"]

    def p_values(self, differences: Mapping[str, FloatArray]) -> dict[str, float]:
        """Two-sided p of «the mean is 0» for each array (U,), by the bootstrap shifted to that hypothesis.

        p = (1 + number of draws that lie as far from the mean as the mean lies from 0) / (resamples + 1), so it is
        never below 1 / (resamples + 1) (Efron and Tibshirani 1993, chapter 16).

        Raises:
            ValueError: as `intervals`.
        """
        lengths = {len(array) for array in differences.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"expected arrays over the same users, got lengths {sorted(lengths)}")
        columns = np.stack(list(differences.values()), axis=1)  # (U, M)
        centres = columns.mean(axis=0)
        away = np.abs(self._resampled_means(columns) - centres) >= np.abs(centres)  # (R, M)
        return {
            name: (1.0 + float(away[:, place].sum())) / (self.resamples + 1) for place, name in enumerate(differences)
        }

    def unpaired_difference(self, first: FloatArray, second: FloatArray) -> Interval:
        """Interval of mean(first) - mean(second) over two groups of different users, each drawn on its own.

        Raises:
            ValueError: a group is empty.
        """
        if not len(first) or not len(second):
            raise ValueError(f"both groups need users, got {len(first)} and {len(second)}")
        drawn = [
            replace(self, seed=self.seed + place)._resampled_means(group[:, None])[:, 0]
            for place, group in enumerate((first, second))
        ]
        tail = (1.0 - self.level) / 2.0
        low, high = np.quantile(drawn[0] - drawn[1], [tail, 1.0 - tail])
        return Interval(float(first.mean() - second.mean()), float(low), float(high))

    def _resampled_means(self, columns: FloatArray) -> FloatArray:
        """Means (R, M) of R draws of U users from columns (U, M)."""
        user_count = len(columns)
        if self.resamples * user_count <= DRAWS_IN_MEMORY_MAX:
            return _draws(self.seed, self.resamples, user_count) @ columns / user_count
        rng = np.random.default_rng(self.seed)
        block = max(1, DRAWS_IN_MEMORY_MAX // user_count)
        means = [
            _draw(rng, min(block, self.resamples - start), user_count) @ columns / user_count
            for start in range(0, self.resamples, block)
        ]
        return np.concatenate(means)


@lru_cache(maxsize=2)  # a table asks for the same draws for each of its rows
def _draws(seed: int, resamples: int, user_count: int) -> FloatArray:
    return _draw(np.random.default_rng(seed), resamples, user_count)


def _draw(rng: np.random.Generator, resamples: int, user_count: int) -> FloatArray:
    """How often each user is drawn: (R, U), rows summing to U."""
    return rng.multinomial(user_count, np.full(user_count, 1.0 / user_count), size=resamples).astype(np.float64)
