"""What lists show, whoever looks: how unlike its items are, how little known, how unevenly places are given away.

An item's exposure is the sum of 1 / log2(place + 1) over the first k places in which it stands: the first place counts
most, as in NDCG.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.evaluation import EvaluationSet
from towers.evaluation.metrics import FloatArray, IntArray, hit_places
from towers.features.histories import FloatArray as Float32Array
from towers.reporting.slices import DECILES, popularity_deciles


def place_weights(k: int) -> FloatArray:
    """(k,) what each place counts."""
    weights: FloatArray = 1.0 / np.log2(np.arange(k) + 2.0)
    return weights


def exposure_of_items(rankings: IntArray, item_count: int, k: int) -> FloatArray:
    """(item_count,) exposure of each item in rankings (U, K)."""
    shown = rankings[:, :k]
    weights = np.broadcast_to(place_weights(shown.shape[1]), shown.shape)
    present = shown >= 0
    return np.bincount(shown[present], weights=weights[present], minlength=item_count).astype(np.float64)


def gini(values: FloatArray) -> float:
    """How unevenly a total is spread over n holders: 0 evenly, 1 - 1/n when one has all; NaN when there is none.

    G = 2 · sum(i · x_i) / (n · sum(x)) - (n + 1) / n over ascending x_i, i from 1.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    total, count = ordered.sum(), len(ordered)
    if not count or total == 0:
        return float("nan")
    return float(2.0 * (np.arange(1, count + 1) * ordered).sum() / (count * total) - (count + 1) / count)


def shares_by_decile(weights: FloatArray, decile_of: NDArray[np.int64]) -> list[float]:
    """The share of the weights (item_count,) that each tenth of the candidates has, the most popular tenth first."""
    inside = decile_of >= 0
    sums = np.bincount(decile_of[inside], weights=weights[inside], minlength=DECILES)
    return [float(share) for share in sums / sums.sum()] if sums.sum() > 0 else [float("nan")] * DECILES


def intra_list_distance(rankings: IntArray, codes: NDArray[np.int64], k: int) -> FloatArray:
    """(U,) mean share of attributes in which two items of a list differ, over all pairs of its first k places.

    Args:
        rankings: (U, K) item rows, -1 pads.
        codes: (item_count, A) value of each categorical attribute.
        k: the cutoff. A list of fewer than two items has no pairs: NaN.
    """
    shown = rankings[:, :k]
    pairs = _pairs(shown >= 0)
    differing = np.zeros(len(shown))
    for column in codes.T:
        values = column[shown]  # (U, k)
        differing += ((values[:, :, None] != values[:, None, :]) & pairs).sum(axis=(1, 2))
    return _ratio(differing, pairs.sum(axis=(1, 2)) * codes.shape[1])


def intra_list_cosine_distance(rankings: IntArray, vectors: Float32Array, k: int) -> FloatArray:
    """(U,) mean of 1 - cosine over the pairs of a list's first k places; vectors (item_count, D) of unit length."""
    shown = rankings[:, :k]
    present = shown >= 0
    taken = np.where(present[:, :, None], vectors[shown], 0).astype(np.float64)  # (U, k, D)
    counts = present.sum(axis=1)
    # The sum of all inner products is the squared length of the sum; the diagonal is one for each item.
    products = np.square(taken.sum(axis=1)).sum(axis=1) - np.square(taken).sum(axis=(1, 2))
    ordered_pairs = (counts * (counts - 1)).astype(np.float64)
    return _ratio(ordered_pairs - products, ordered_pairs)


def self_information(rankings: IntArray, item_users: NDArray[np.int64], user_count: int, k: int) -> FloatArray:
    """(U,) mean of -log2(share of users who had the item before) over a list's first k places, in bits; NaN if empty.

    An item that nobody had counts as one that one user had.
    """
    shown = rankings[:, :k]
    present = shown >= 0
    bits = -np.log2(np.maximum(item_users, 1) / user_count)
    return _ratio(np.where(present, bits[shown], 0.0).sum(axis=1), present.sum(axis=1))


def exposure_quality(rankings: IntArray, asked: EvaluationSet, k: int) -> FloatArray:
    """(U,) the share of a list's exposure that goes to items which the user then bought."""
    weights = place_weights(k)
    hits = hit_places(rankings[:, :k], asked.relevant)
    share: FloatArray = (hits * weights[: hits.shape[1]]).sum(axis=1) / weights.sum()
    return share


def describe(
    rankings: IntArray, asked: EvaluationSet, item_users: NDArray[np.int64], user_count: int, k: int
) -> dict[str, Any]:
    """Gini, exposure by tenth of popularity, and how many users knew what is shown, of one set of lists."""
    exposure = exposure_of_items(rankings, asked.item_count, k)
    decile_of = popularity_deciles(asked.candidate_rows, item_users)
    total = exposure.sum()
    return {
        f"gini@{k}": gini(exposure[asked.candidate_rows]),
        f"exposure_by_decile@{k}": shares_by_decile(exposure, decile_of),
        f"known_by@{k}": float((exposure * item_users).sum() / total / user_count) if total else float("nan"),
    }


def demand(asked: EvaluationSet, item_users: NDArray[np.int64], user_count: int) -> dict[str, Any]:
    """The same of what was bought: the yardstick of the bias."""
    bought = np.bincount(asked.relevant.indices, minlength=asked.item_count).astype(np.float64)
    decile_of = popularity_deciles(asked.candidate_rows, item_users)
    return {
        "gini": gini(bought[asked.candidate_rows]),
        "by_decile": shares_by_decile(bought, decile_of),
        "known_by": float((bought * item_users).sum() / bought.sum() / user_count),
    }


def _pairs(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(U, k, k) ordered pairs of two different filled places."""
    both = present[:, :, None] & present[:, None, :]
    return np.asarray(both & ~np.eye(present.shape[1], dtype=np.bool_))


def _ratio(total: FloatArray, count: NDArray[Any]) -> FloatArray:
    """total / count, NaN where there is nothing to divide by."""
    ratio: FloatArray = np.full(len(total), np.nan)
    np.divide(total, count, out=ratio, where=count > 0)
    return ratio
