"""What a ranker says of a cut's candidates, and how good that order is."""

from __future__ import annotations

import numpy as np
import torch

from towers.features.histories import BoolArray, FloatArray
from towers.models.ranker import Ranker
from towers.training.cuts import CutExamples

NDCG_K = 20
_CANDIDATES_PER_PASS = 65_536


def ranker_heads(ranker: Ranker, cut: CutExamples, device: torch.device) -> FloatArray:
    """(n, H) calibrated outputs of all heads for all candidates of a cut."""
    pieces = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(cut.label)), max(len(cut.label) // _CANDIDATES_PER_PASS, 1)):
            arrays = (
                cut.request[cut.candidate_user[rows]],
                cut.item[cut.candidate_item[rows]],
                cut.pair[rows],
            )
            request, item, pair = (torch.from_numpy(array).to(device) for array in arrays)
            pieces.append(ranker.heads(request, item, pair).cpu().numpy())
    return np.concatenate(pieces)


def ranker_logits(ranker: Ranker, cut: CutExamples, device: torch.device) -> FloatArray:
    """(n,) calibrated logits of buying."""
    return ranker_heads(ranker, cut, device)[:, 0]


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
