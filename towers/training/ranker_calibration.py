"""Calibration of the trained ranker on a held-out cut, and how well it came out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from towers.features.histories import FloatArray
from towers.models.ranker import Ranker
from towers.training.cuts import CutExamples
from towers.training.ranker_outputs import ranker_heads

SLOPE_MIN = 0.05
"""A held-out cut too small to show the ranker's worth may ask for a slope of 0 or less, which would undo its order."""
PRIOR_COUNT = 10
"""Points that say a slope of 1, beside the known targets of a head that says numbers."""
BINS = 10
_PROBABILITIES = ("buys", "buys_again")


@dataclass(frozen=True)
class Reliability:
    """What was said against what came: over equally filled bins, in the order of the probabilities.

    Attributes:
        said, came: (b,) mean probability and share of positives of each bin. count: (b,) its candidates.
    """

    said: NDArray[np.float64]
    came: NDArray[np.float64]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, logit: FloatArray, label: NDArray[np.generic], bins: int = BINS) -> Reliability:
        """Of calibrated logits (n,) and labels (n,); fewer bins where there are fewer candidates."""
        probability = expit(logit.astype(np.float64))
        places = [part for part in np.array_split(np.argsort(logit, kind="stable"), bins) if len(part)]
        return cls(
            said=np.array([probability[part].mean() for part in places]),
            came=np.array([label[part].astype(np.float64).mean() for part in places]),
            count=np.array([len(part) for part in places], np.int64),
        )

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean distance of a bin from the diagonal, weighted by its candidates."""
        return float((np.abs(self.said - self.came) * self.count).sum() / self.count.sum())


def calibrate(ranker: Ranker, cut: CutExamples, device: torch.device) -> tuple[float, float]:
    """Fits slope and offset of every head on a held-out cut, stores them, and returns those of "buys".

    Probabilities by logistic regression on the logit (Platt 1999), numbers by least squares. A cut that knows one
    outcome alone gives slope 1 and offset 0, one that knows nothing of a head leaves that head's; a slope never turns
    the order around.
    """
    heads, before = ranker.shape.heads, ranker.calibrations().clone()
    _store(ranker, torch.tensor([[1.0, 0.0]]).repeat(len(heads), 1))
    raw = ranker_heads(ranker, cut, device).astype(np.float64)  # (n, H)
    fitted: list[tuple[float, float]] = []
    for place, name in enumerate(heads):
        target = cut.target(name)
        if target is None:
            slope, offset = before[place].tolist()
            fitted.append((slope, offset))
        else:
            fit = _platt if name in _PROBABILITIES else _line
            fitted.append(fit(raw[:, place], target.astype(np.float64)))
    _store(ranker, torch.tensor(fitted))
    return fitted[0]


def copy_calibration(source: Ranker, target: Ranker) -> None:
    """Gives one ranker the slopes and offsets of another of the same heads."""
    _store(target, source.calibrations())


def _store(ranker: Ranker, calibrations: torch.Tensor) -> None:
    """Of all heads, (H, 2)."""
    ranker.calibration.copy_(calibrations[0])
    if len(calibrations) > 1:
        ranker.further_calibration.copy_(calibrations[1:])


def _line(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of the least-squares line through the known targets (n,), NaN where unknown.

    A handful of ratings may lie on a line as steep as you like: `PRIOR_COUNT` more points, spread as all predictions
    are, say that the slope is 1.
    """
    known = ~np.isnan(target)
    if known.sum() < 2 or np.ptp(prediction[known]) == 0:
        return 1.0, 0.0
    x, y = prediction[known], target[known]
    prior = PRIOR_COUNT * prediction.var()
    slope = (len(x) * float(np.cov(x, y, bias=True)[0, 1]) + prior) / (len(x) * x.var() + prior)
    slope = max(float(slope), SLOPE_MIN)
    return slope, float(y.mean() - slope * x.mean())


def _platt(logit: NDArray[np.float64], label: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of logistic regression on one input (n,), by Newton steps that are halved until they help.

    Below SLOPE_MIN the slope is SLOPE_MIN, and the offset the one that gives the share of positives.
    """
    if label.min() == label.max():
        return 1.0, 0.0
    inputs = np.stack([logit, np.ones_like(logit)], axis=1)  # (n, 2)

    def cost(weights: NDArray[np.float64]) -> float:
        score = inputs @ weights
        return float((np.logaddexp(0, score) - label * score).mean())

    weights = np.array([1.0, 0.0])
    for _ in range(50):
        probability = expit(inputs @ weights)
        gradient = inputs.T @ (probability - label)
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while cost(weights - step) > cost(weights) and np.abs(step).max() > 1e-8:
            step /= 2
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    if weights[0] >= SLOPE_MIN:
        return float(weights[0]), float(weights[1])
    flat = SLOPE_MIN * logit
    reach = np.abs(flat).max() + 50  # wide enough for any share that n labels can have
    return SLOPE_MIN, float(brentq(lambda offset: expit(flat + offset).mean() - label.mean(), -reach, reach))
