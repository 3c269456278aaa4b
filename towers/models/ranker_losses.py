"""Losses of the ranker over the candidates of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from towers.models.rows import rows_of


def binary_loss(logit: Tensor, label: Tensor, positive_weight: float) -> Tensor:
    """Mean cross-entropy of each candidate by itself: (n,), (n,) 0 or 1."""
    weight = None if positive_weight == 1 else logit.new_tensor(positive_weight)
    return functional.binary_cross_entropy_with_logits(logit, label, pos_weight=weight)


def listwise_loss(logit: Tensor, label: Tensor, request: Tensor, request_count: int) -> Tensor:
    """Cross-entropy of the softmax over each request's candidates (ListNet, Cao et al. 2007).

    The target spreads 1 evenly over a request's positives, so that every request counts the same; one without a
    positive says nothing about the order and is left out of the mean.

    Args:
        logit: (n,). label: (n,) 0 or 1. request: (n,) int64, the request of each candidate, below `request_count`.
    """
    highest = logit.new_full((request_count,), -torch.inf).scatter_reduce(0, request, logit.detach(), "amax")
    shifted = logit - highest[request]
    total = logit.new_zeros(request_count).index_add(0, request, shifted.exp())
    positives = logit.new_zeros(request_count).index_add(0, request, label)
    log_total = rows_of(total.clamp(min=1e-30).log()[:, None], request)[:, 0]  # (n,)
    log_share = shifted - log_total  # log of the softmax
    target = label / positives.clamp(min=1)[request]
    return -(target * log_share).sum() / (positives > 0).sum().clamp(min=1)


def squared_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the known targets (n,), NaN where unknown; 0 where none is known."""
    known = ~target.isnan()
    error = (prediction - target.nan_to_num(0.0)) * known
    return error.square().sum() / known.sum().clamp(min=1)
