"""How good the calibrated heads are on held-out candidates: figures for the metrics, and the reliability plot."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.special import expit

from towers.evaluation import auc, log_loss
from towers.features.histories import FloatArray
from towers.training.cuts import CutExamples
from towers.training.ranker_calibration import Reliability


def ranker_quality(heads: Sequence[str], outputs: FloatArray, cut: CutExamples) -> dict[str, float]:
    """AUC, log loss and expected calibration error of the probabilities; RMSE and MAE of the numbers.

    Args:
        heads: the names of the columns of `outputs` (n, H), the first of them "buys", whose figures bear no prefix.
    """
    figures: dict[str, float] = {}
    for place, name in enumerate(heads):
        target = cut.target(name)
        if target is None:
            continue
        if name in ("buys", "buys_again"):
            prefix = "" if name == "buys" else f"{name}_"
            figures |= {prefix + key: value for key, value in _probability_quality(outputs[:, place], target).items()}
        else:
            figures |= {f"{name}_{key}": value for key, value in _number_quality(outputs[:, place], target).items()}
    return figures


def write_reliability(reliability: Reliability, path: Path) -> dict[str, list[float]]:
    """The bins as the metrics hold them; draws them to `path` where matplotlib is installed."""
    if find_spec("matplotlib") is not None:
        _draw(reliability, path)
    return {"said": reliability.said.tolist(), "came": reliability.came.tolist()}


def _probability_quality(logit: FloatArray, target: np.ndarray) -> dict[str, float]:
    label = target.astype(np.int64)
    both = 0 < label.sum() < len(label)
    return {
        "auc": auc(logit.astype(np.float64), label) if both else float("nan"),
        "log_loss": log_loss(expit(logit.astype(np.float64)), label),
        "calibration_error": Reliability.of(logit, label).expected_error,
    }


def _number_quality(prediction: FloatArray, target: np.ndarray) -> dict[str, float]:
    known = ~np.isnan(target)
    error = prediction[known].astype(np.float64) - target[known]
    if not len(error):
        return {"rmse": float("nan"), "mae": float("nan")}
    return {"rmse": float(np.sqrt(np.square(error).mean())), "mae": float(np.abs(error).mean())}


def _draw(reliability: Reliability, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    end = max(reliability.said.max(), reliability.came.max()) * 1.05
    axes.plot([0, end], [0, end], color="grey", linewidth=1, label="perfectly calibrated")
    axes.plot(reliability.said, reliability.came, marker="o", label="ranker, bins of equally many candidates")
    axes.set(
        xlabel="mean predicted probability",
        ylabel="share bought",
        title=f"Reliability; expected calibration error {reliability.expected_error:.4f}",
    )
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
