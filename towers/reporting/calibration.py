"""Are the scores of lists probabilities? Foretold against happened, in bins of equally many places."""

from __future__ import annotations

from typing import Any

import numpy as np

from towers.evaluation import EvaluationSet, auc, log_loss
from towers.evaluation.metrics import FloatArray, hit_places
from towers.features.histories import BoolArray
from towers.reporting.lists import RankedLists

BINS = 10
Z_95 = 1.959964


def reliability(lists: RankedLists, asked: EvaluationSet) -> dict[str, Any]:
    """The reliability plot's points over all listed places that have a score.

    Returns:
        {places, bins: [{predicted, observed, ci: [low, high], places}], calibration_error, log_loss, auc}; or {note}
        where no place has a score that is a probability.
    """
    chosen = (lists.rows >= 0) & ~np.isnan(lists.scores)
    scores = lists.scores[chosen].astype(np.float64)
    if not len(scores):
        return {"note": "the lists hold no scores"}
    if scores.min() < 0 or scores.max() > 1:
        return {"note": f"the scores run from {scores.min():.3g} to {scores.max():.3g}: they are no probabilities"}
    bought = hit_places(lists.rows, asked.relevant)[chosen]
    bins = reliability_bins(scores, bought)
    error = sum(abs(row["predicted"] - row["observed"]) * row["places"] for row in bins) / len(scores)
    both = 0 < bought.sum() < len(bought)
    return {
        "places": len(scores),
        "bins": bins,
        "calibration_error": float(error),
        "log_loss": log_loss(scores, bought.astype(np.int64)),
        "auc": auc(scores, bought.astype(np.int64)) if both else None,
    }


def reliability_bins(scores: FloatArray, happened: BoolArray, bin_count: int = BINS) -> list[dict[str, Any]]:
    """(N,), (N,) → at most `bin_count` rows of equally many places, lowest scores first."""
    rows = []
    for places in np.array_split(np.argsort(scores, kind="stable"), bin_count):
        if len(places):
            observed = float(happened[places].mean())
            rows.append(
                {
                    "predicted": float(scores[places].mean()),
                    "observed": observed,
                    "ci": list(wilson(observed, len(places))),
                    "places": len(places),
                }
            )
    return rows


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share seen in `count` trials (Wilson 1927)."""
    centre = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 / (1 + Z_95**2 / count) * float(np.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)))
    return max(centre - half, 0.0), min(centre + half, 1.0)
