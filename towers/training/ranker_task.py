"""Training of the ranker: cross-entropy over the candidates of several cuts, validated by NDCG on a later one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor, nn

from towers.features.histories import BoolArray, FloatArray
from towers.models.ranker import Ranker
from towers.schema import LogTooShortError
from towers.training.cuts import CutExamples
from towers.training.distributed import shares, step_count

NDCG_K = 20
SLOPE_MIN = 0.05
"""A held-out cut too small to show the ranker's worth may ask for a slope of 0 or less, which would undo its order."""


@dataclass
class RankerTask:
    """The ranker's training problem; `validation` is None in a refit."""

    model: Ranker
    cuts: Sequence[CutExamples]
    validation: CutExamples | None
    batch_size: int
    seed: int
    device: torch.device
    name: str = "ranker"

    def __post_init__(self) -> None:
        self._cut = np.concatenate([np.full(len(cut.label), place) for place, cut in enumerate(self.cuts)])
        self._row = np.concatenate([np.arange(len(cut.label)) for cut in self.cuts])
        if not any(cut.label.any() for cut in self.cuts):
            raise LogTooShortError(
                "no candidate of any training cut was bought within ranker.horizon_days, so the ranker has nothing to "
                "learn from; the log is too short for these cuts"
            )
        _standardise(self.model, self.cuts)

    def step_count(self) -> int:
        """Steps in an epoch."""
        return step_count(len(self._row), self.batch_size)

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """The loss of each step of the epoch, candidates in a new order."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self._row))
        for chosen in shares(order, self.batch_size):
            parts = [
                self._take(place, self._row[chosen][self._cut[chosen] == place]) for place in range(len(self.cuts))
            ]
            request, item, pair, label = (torch.cat(column) for column in zip(*parts, strict=True))
            yield nn.functional.binary_cross_entropy_with_logits(self.model(request, item, pair), label)

    def _take(self, place: int, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cut = self.cuts[place]
        arrays = (
            cut.request[cut.candidate_user[rows]],
            cut.item[cut.candidate_item[rows]],
            cut.pair[rows],
            cut.label[rows].astype(np.float32),
        )
        request, item, pair, label = (torch.from_numpy(array).to(self.device) for array in arrays)
        return request, item, pair, label

    def validate(self) -> float:
        """Mean NDCG@20 over the validation cut's users who bought a candidate; NaN without a validation cut."""
        if self.validation is None:
            return float("nan")
        return candidate_ndcg(self.validation, ranker_logits(self.model, self.validation, self.device))


def ranker_logits(ranker: Ranker, cut: CutExamples, device: torch.device) -> FloatArray:
    """(n,) calibrated logits of all candidates of a cut."""
    pieces = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(cut.label)), max(len(cut.label) // 65_536, 1)):
            arrays = (
                cut.request[cut.candidate_user[rows]],
                cut.item[cut.candidate_item[rows]],
                cut.pair[rows],
            )
            request, item, pair = (torch.from_numpy(array).to(device) for array in arrays)
            pieces.append(ranker(request, item, pair).cpu().numpy())
    return np.concatenate(pieces)


def candidate_ndcg(cut: CutExamples, score: FloatArray, allowed: BoolArray | None = None) -> float:
    """Mean NDCG@20 within the candidates, over users with a positive, or NaN; `allowed` (n,) restricts both."""
    chosen = np.flatnonzero(allowed) if allowed is not None else np.arange(len(score))
    user, label = cut.candidate_user[chosen], cut.label[chosen]
    order = np.lexsort((-score[chosen], user))
    user, label = user[order], label[order]
    place = np.arange(len(user)) - np.searchsorted(user, user)
    gain = np.where(place < NDCG_K, label / np.log2(place + 2), 0)
    user_count = len(cut.user_row)
    positives = np.bincount(user, weights=label, minlength=user_count).astype(np.int64)
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(NDCG_K) + 2))])[np.minimum(positives, NDCG_K)]
    if not positives.any():
        return float("nan")
    total = np.bincount(user, weights=gain, minlength=user_count)
    return float((total[positives > 0] / ideal[positives > 0]).mean())


def calibrate(ranker: Ranker, cut: CutExamples, device: torch.device) -> tuple[float, float]:
    """Fits slope and offset of the logit on a held-out cut (Platt 1999), and stores them.

    A cut that knows one outcome alone leaves the logit as it is; a slope never turns the ranker's order around.
    """
    ranker.calibration.copy_(torch.tensor([1.0, 0.0]))
    slope, offset = 1.0, 0.0
    if cut.label.any() and not cut.label.all():
        slope, offset = _platt(ranker_logits(ranker, cut, device).astype(np.float64), cut.label.astype(np.float64))
    ranker.calibration.copy_(torch.tensor([slope, offset]))
    return slope, offset


def _platt(logit: NDArray[np.float64], label: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of logistic regression on one input (n,), by Newton steps that are halved until they help.

    Below SLOPE_MIN the slope is SLOPE_MIN, and the offset the one that gives the share of positives.
    """
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


def _standardise(ranker: Ranker, cuts: Sequence[CutExamples]) -> None:
    """Sets the ranker's input means and scales from a sample of the training cuts' candidates."""
    samples: dict[str, list[FloatArray]] = {"request": [], "item": [], "pair": []}
    for cut in cuts:
        rows = np.linspace(0, len(cut.label) - 1, min(len(cut.label), 50_000)).astype(np.int64)
        samples["request"].append(cut.request[cut.candidate_user[rows]])
        samples["item"].append(cut.item[cut.candidate_item[rows]])
        samples["pair"].append(cut.pair[rows])
    for name, parts in samples.items():
        joined = np.concatenate(parts)
        deviation = joined.std(axis=0, dtype=np.float64)  # in float32 the hour, the same in all cuts, seems to vary
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
        getattr(ranker, f"{name}_mean").copy_(torch.from_numpy(joined.mean(axis=0)))
        if name != "pair" and ranker.shape.vector:
            # An embedding counts as one input: its coordinates share one unit of variance. At full weight their number
            # alone lets the ranker learn users and items by heart (docs/log.md).
            scale[: ranker.shape.vector] /= np.sqrt(ranker.shape.vector)
        getattr(ranker, f"{name}_scale").copy_(torch.from_numpy(scale.astype(np.float32)))
