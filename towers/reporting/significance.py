"""Is the model better than each baseline? Paired differences, and p values corrected for how many they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from towers.evaluation import Bootstrap, MetricsReport

RESAMPLES = 10_000
"""So many that the smallest p value stays small after it was multiplied by the number of comparisons."""

ALPHA = 0.05


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the same order: the family-wise error stays below the level (Holm 1979).

    The i-th smallest of m, counted from 0, is multiplied by m - i; none is smaller than one before it, none above 1.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    raised = np.minimum(np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors), 1.0)
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised
    return [float(value) for value in adjusted]


def against_each(
    model: MetricsReport,
    others: Mapping[str, MetricsReport],
    metrics: Sequence[str],
    bootstrap: Bootstrap = Bootstrap(resamples=RESAMPLES),
) -> list[dict[str, Any]]:
    """The model minus each other, for each metric; the correction covers all rows of the result.

    Returns:
        Rows {other, metric, difference, ci: [low, high], p, p_holm, significant}; significant: p_holm < ALPHA.
    """
    differences = {
        (name, metric): model.per_user[metric] - report.per_user[metric]
        for name, report in others.items()
        for metric in metrics
    }
    if not differences:
        return []
    named = {f"{name} {metric}": values for (name, metric), values in differences.items()}
    intervals, p_values = bootstrap.intervals(named), bootstrap.p_values(named)
    adjusted = holm(list(p_values.values()))
    return [
        {
            "other": name,
            "metric": metric,
            "difference": intervals[key].mean,
            "ci": [intervals[key].low, intervals[key].high],
            "p": p_values[key],
            "p_holm": corrected,
            "significant": corrected < ALPHA,
        }
        for ((name, metric), key, corrected) in zip(differences, named, adjusted, strict=True)
    ]
