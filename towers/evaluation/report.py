"""What one ranking of an evaluation set is worth: per-user metrics, their means and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towers.evaluation.bootstrap import Bootstrap, Interval
from towers.evaluation.metrics import FloatArray, IntArray, catalogue_coverage, per_user_metrics
from towers.evaluation.protocol import EvaluationSet

CUTOFFS = (5, 10, 20, 50)

Summary = dict[str, float | int | list[float]]  # JSON-able: recall@20, recall@20_ci, coverage@20, users, candidates


@dataclass(frozen=True, eq=False)
class MetricsReport:
    """Metrics of one ranking; two reports on the same evaluation set can be compared user by user."""

    ks: tuple[int, ...]
    user_count: int
    candidate_count: int
    per_user: Mapping[str, FloatArray]  # `recall@20` → (U,)
    coverage: Mapping[str, float]  # `coverage@20`; of the catalogue, so it has no value per user

    def mean(self, metric: str) -> float:
        """Mean over users of a metric named like `ndcg@20`."""
        return float(self.per_user[metric].mean())

    def intervals(self, bootstrap: Bootstrap = Bootstrap()) -> dict[str, Interval]:
        """Mean and bootstrap interval of every per-user metric."""
        return bootstrap.intervals(self.per_user)

    def difference(self, other: MetricsReport, metric: str, bootstrap: Bootstrap = Bootstrap()) -> Interval:
        """Mean and interval of this ranking's metric minus the other's, paired by user."""
        return bootstrap.paired_difference(self.per_user[metric], other.per_user[metric])

    def as_dict(self, bootstrap: Bootstrap = Bootstrap()) -> Summary:
        """JSON-able means (`ndcg@20`), intervals (`ndcg@20_ci`: [low, high]), coverage and counts."""
        summary: Summary = {"users": self.user_count, "candidates": self.candidate_count}
        for name, interval in self.intervals(bootstrap).items():
            summary[name] = interval.mean
            summary[f"{name}_ci"] = [interval.low, interval.high]
        return summary | dict(self.coverage)


def evaluate_rankings(rankings: IntArray, evaluation_set: EvaluationSet, ks: Sequence[int] = CUTOFFS) -> MetricsReport:
    """Judge one ranked list for each user of the evaluation set.

    Args:
        rankings: (U, K) item rows in the order of `evaluation_set.user_rows`, best first, padded with -1. An item
            that is no candidate, or that an evaluation of new items only excludes, takes a place and is a miss.
        evaluation_set: who is asked and what is relevant.
        ks: cutoffs, each at most K.

    Raises:
        ValueError: see `per_user_metrics`.
    """
    per_user = per_user_metrics(rankings, evaluation_set.relevant, ks)
    coverage = {f"coverage@{k}": catalogue_coverage(rankings, evaluation_set.candidate_rows, k) for k in ks}
    return MetricsReport(tuple(ks), evaluation_set.user_count, len(evaluation_set.candidate_rows), per_user, coverage)
