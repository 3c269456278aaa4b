"""Sampled softmax with the logQ correction (Bengio and Senécal 2008; Yi et al. 2019 for in-batch negatives).

Each row's positive competes with every other candidate of the step: the other rows' positives and uniform draws, each
item once however often it was drawn. A candidate that is often there would be pushed down for its popularity alone, so
the logarithm of its probability to be there is taken off its logit. (The expected number of draws, which may be far
above 1, would be right if repeats counted as often; for distinct candidates it lifts popular items instead.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sampled_softmax(
    user_vectors: Tensor,
    item_vectors: Tensor,
    positive: Tensor,
    log_inclusion: Tensor,
    blocked: Tensor,
    scale: Tensor,
) -> Tensor:
    """Mean cross-entropy of each row's positive against all candidates of the step.

    Args:
        user_vectors: (R, D), one row a (visit, positive).
        item_vectors: (C, D) of the step's candidates.
        positive: (R,) column of each row's positive.
        log_inclusion: (C,) log of the probability that the candidate is among those of a step.
        blocked: (R, C) True where a candidate must not count as a negative (another positive of the same visit).
        scale: inverse temperature, a scalar.

    Returns:
        A scalar.
    """
    logits = scale * (user_vectors @ item_vectors.T) - log_inclusion  # (R, C)
    left_out = blocked.scatter(1, positive[:, None], False)  # a row's own positive always stays
    return nn.functional.cross_entropy(logits.masked_fill(left_out, -torch.inf), positive)


def log_inclusion(target_share: Tensor, positives_per_step: int, uniform_per_step: int, item_count: int) -> Tensor:
    """(C,) log of the probability that an item is drawn at all in a step.

    In-batch draws come by the item's share of targets, uniform ones alike for all; the count of both is nearly Poisson.
    """
    expected_draws = positives_per_step * target_share + uniform_per_step / item_count
    return torch.log(-torch.expm1(-expected_draws))
