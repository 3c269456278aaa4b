"""Metrics of predicted probabilities and ratings: AUC and log loss of a ranker, RMSE where there are ratings."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from towers.evaluation.metrics import FloatArray, IntArray

# A forecast of exactly 0 or 1 that is wrong would cost infinitely much; float32 cannot tell smaller ones apart.
PROBABILITY_MIN = 1e-7


def auc(scores: FloatArray, labels: IntArray) -> float:
    """Probability that a random positive scores above a random negative; a tie counts half.

    By rank sums (Mann and Whitney 1947): O(N log N).

    Args:
        scores: (N,) any order-preserving score.
        labels: (N,) 0 or 1.

    Raises:
        ValueError: only one of the two classes is present, or the shapes disagree.
    """
    _require_same_length(scores, labels)
    positives = np.asarray(labels) == 1
    positive_count = int(positives.sum())
    negative_count = len(positives) - positive_count
    if not positive_count or not negative_count:
        raise ValueError(f"AUC needs both classes; got {positive_count} positives and {negative_count} negatives")
    ranks = rankdata(scores)  # (N,) 1-based, ties averaged
    above = float(ranks[positives].sum()) - positive_count * (positive_count + 1) / 2
    return above / (positive_count * negative_count)


def log_loss(probabilities: FloatArray, labels: IntArray) -> float:
    """Mean negative log likelihood in nats.

    Args:
        probabilities: (N,) of label 1, in [0, 1]; clipped to PROBABILITY_MIN from both ends.
        labels: (N,) 0 or 1.
    """
    _require_same_length(probabilities, labels)
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), PROBABILITY_MIN, 1.0 - PROBABILITY_MIN)
    return float(-np.where(np.asarray(labels) == 1, np.log(clipped), np.log1p(-clipped)).mean())


def rmse(predicted: FloatArray, actual: FloatArray) -> float:
    """Root of the mean squared error over the pairs (N,) whose actual rating is not NaN.

    Raises:
        ValueError: there is no actual rating, or the shapes disagree.
    """
    _require_same_length(predicted, actual)
    errors = np.asarray(predicted, dtype=np.float64) - np.asarray(actual, dtype=np.float64)
    errors = errors[~np.isnan(actual)]
    if not len(errors):
        raise ValueError("RMSE needs at least one actual rating")
    return float(np.sqrt(np.square(errors).mean()))


def _require_same_length(first: FloatArray, second: FloatArray | IntArray) -> None:
    if np.shape(first) != np.shape(second) or np.ndim(first) != 1 or not len(first):
        raise ValueError(f"expected two arrays of one length above 0, got {np.shape(first)} and {np.shape(second)}")
