"""Metrics of ranked lists, one value per user, computed for all users at once.

A ranking is (U, K) item rows, best first; -1 says «no item in this place». The relevant items of user u are the
column indices of row u of a CSR matrix (U, item_count). A place is a hit when its item is relevant.

    recall@k     hits in the first k / min(relevant, k): 1 is reachable whatever the number of relevant items
    precision@k  hits in the first k / k, also when the list is shorter
    f1@k         harmonic mean of those two
    ndcg@k       binary gains, discount 1 / log2(place + 1), ideal over min(relevant, k) (Järvelin and Kekäläinen 2002)
    mrr@k        1 / place of the first hit among the first k, 0 without one
    hit_rate@k   1 when there is a hit among the first k
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float64]
SparseRows = Any  # scipy.sparse.csr_array; scipy has no types

NO_ITEM = -1

RANKING_METRICS = ("recall", "precision", "f1", "ndcg", "mrr", "hit_rate")


def per_user_metrics(rankings: IntArray, relevant: SparseRows, ks: Sequence[int]) -> dict[str, FloatArray]:
    """Every ranking metric at every cutoff.

    Args:
        rankings: (U, K) item rows, best first, padded with -1; no item twice in a list.
        relevant: CSR (U, item_count); its pattern is what counts, and no row is empty.
        ks: cutoffs, each at most K.

    Returns:
        Arrays (U,) float64 named like `recall@20`.

    Raises:
        ValueError: a list names an item twice or a row that does not exist, a cutoff exceeds K, a user has no
            relevant item, or the shapes disagree.
    """
    _require_valid(rankings, relevant, ks)
    hits = hit_places(rankings, relevant)  # (U, K) bool
    relevant_counts = np.diff(relevant.indptr)  # (U,)
    place_count = rankings.shape[1]
    hit_counts = np.cumsum(hits, axis=1)  # (U, K)
    discounts = 1.0 / np.log2(np.arange(place_count) + 2.0)  # (K,)
    gains = np.cumsum(hits * discounts, axis=1)  # (U, K)
    ideal_gains = np.cumsum(discounts)  # (K,)
    has_hit = hits.any(axis=1)
    first_hit = np.where(has_hit, hits.argmax(axis=1), place_count)  # (U,) 0-based, K without a hit
    metrics: dict[str, FloatArray] = {}
    for k in ks:
        reachable = np.minimum(relevant_counts, k)  # (U,)
        found = hit_counts[:, k - 1].astype(np.float64)
        recall, precision = found / reachable, found / k
        metrics[f"recall@{k}"] = recall
        metrics[f"precision@{k}"] = precision
        metrics[f"f1@{k}"] = 2.0 * recall * precision / np.where(found > 0, recall + precision, 1.0)
        metrics[f"ndcg@{k}"] = gains[:, k - 1] / ideal_gains[reachable - 1]
        metrics[f"mrr@{k}"] = np.where(first_hit < k, 1.0 / (first_hit + 1.0), 0.0)
        metrics[f"hit_rate@{k}"] = (found > 0).astype(np.float64)
    return metrics


def catalogue_coverage(rankings: IntArray, candidate_rows: IntArray, k: int) -> float:
    """Share of the candidate items that stand among the first k of at least one user's list.

    Args:
        rankings: (U, K) item rows, padded with -1.
        candidate_rows: (C,) distinct item rows; items outside them do not count.
        k: cutoff, at most K.
    """
    shown = np.intersect1d(rankings[:, :k], candidate_rows)
    return len(shown) / len(candidate_rows)


def hit_places(rankings: IntArray, relevant: SparseRows) -> npt.NDArray[np.bool_]:
    """Which places hold a relevant item: (U, K) bool for rankings (U, K) and CSR (U, item_count)."""
    user_count, item_count = relevant.shape
    owners = np.repeat(np.arange(user_count, dtype=np.int64), np.diff(relevant.indptr))
    known = np.sort(owners * item_count + relevant.indices)  # one number per (user, item); sorted for the search
    if not len(known):
        return np.zeros(rankings.shape, dtype=np.bool_)
    asked = np.arange(user_count, dtype=np.int64)[:, None] * item_count + rankings  # (U, K)
    places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    hits: npt.NDArray[np.bool_] = (known[places] == asked) & (rankings != NO_ITEM)
    return hits


def _require_valid(rankings: IntArray, relevant: SparseRows, ks: Sequence[int]) -> None:
    user_count, item_count = relevant.shape
    if rankings.ndim != 2 or len(rankings) != user_count:
        raise ValueError(f"rankings have shape {rankings.shape}; there are {user_count} users, one row for each")
    if not np.issubdtype(rankings.dtype, np.signedinteger):
        raise ValueError(f"rankings are {rankings.dtype}; they are item rows, a signed integer type")
    if not ks or min(ks) < 1 or max(ks) > rankings.shape[1]:
        raise ValueError(f"cutoffs {tuple(ks)} do not fit lists of {rankings.shape[1]} places")
    if user_count == 0:
        raise ValueError("there is no user to evaluate")
    if np.diff(relevant.indptr).min() < 1:
        raise ValueError(f"user in place {int(np.diff(relevant.indptr).argmin())} has no relevant item; leave it out")
    if rankings.min() < NO_ITEM or rankings.max() >= item_count:
        raise ValueError(f"rankings hold rows outside -1..{item_count - 1}: {rankings.min()} to {rankings.max()}")
    ordered = np.sort(rankings, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)
    if repeated.any():
        user, place = np.argwhere(repeated)[0]
        raise ValueError(f"the list of the user in place {user} names item row {ordered[user, place]} twice")
