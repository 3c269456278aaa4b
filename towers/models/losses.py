"""What the towers minimise: sampled softmax with the logQ correction, or gBCE.

Sampled softmax (Bengio and Senécal 2008; Yi et al. 2019 for in-batch negatives): each row's positive competes with
every other candidate of the step: the other rows' positives and uniform draws, each item once however often it was
drawn. A candidate that is often there would be pushed down for its popularity alone, so the logarithm of its
probability to be there is taken off its logit. (The expected number of draws, which may be far above 1, would be right
if repeats counted as often; for distinct candidates it lifts popular items instead.)

gBCE (Petrov and Macdonald 2023): binary cross-entropy against uniform negatives, the positive's probability raised to
a power that undoes the overconfidence which negatives bring that are only sampled.
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
    logits = torch.addmm(-log_inclusion, scale * user_vectors, item_vectors.T)  # (R, C)
    left_out = blocked.scatter(1, positive[:, None], False)  # a row's own positive always stays
    return nn.functional.cross_entropy(logits.masked_fill(left_out, -torch.inf), positive)


def log_inclusion(target_share: Tensor, positives_per_step: int, uniform_per_step: int, item_count: int) -> Tensor:
    """(C,) log of the probability that an item is drawn at all in a step.

    In-batch draws come by the item's share of targets, uniform ones alike for all; the count of both is nearly Poisson.
    """
    expected_draws = positives_per_step * target_share + uniform_per_step / item_count
    return torch.log(-torch.expm1(-expected_draws))


def shared_softmax(
    user_vectors: Tensor, own_vectors: Tensor, negative_vectors: Tensor, blocked: Tensor, scale: Tensor
) -> Tensor:
    """Mean cross-entropy of each row's positive against uniform negatives that all rows share.

    Uniform draws are all alike in their probability, so nothing is taken off.

    Args:
        user_vectors: (R, D).
        own_vectors: (R, D), each row's positive.
        negative_vectors: (C, D).
        blocked: (R, C) True where a candidate must not count as a negative, such as the positive itself.
        scale: inverse temperature, a scalar.

    Returns:
        A scalar.
    """
    own, against = _logits(user_vectors, own_vectors, negative_vectors, scale)
    logits = torch.cat([own[:, None], against.masked_fill(blocked, -torch.inf)], dim=1)  # (R, 1 + C)
    return (torch.logsumexp(logits, dim=1) - own).mean()


def gbce(
    user_vectors: Tensor,
    own_vectors: Tensor,
    negative_vectors: Tensor,
    blocked: Tensor,
    scale: Tensor,
    sampled_share: float,
    calibration: float,
) -> Tensor:
    """Mean generalised binary cross-entropy of each row's positive and its negatives.

    Args:
        user_vectors, own_vectors, negative_vectors, blocked, scale: as in `shared_softmax`.
        sampled_share: share of the catalogue's items that are negatives of a row, the paper's α.
        calibration: the paper's t, from 0 (plain cross-entropy) to 1 (as if all items were negatives).

    Returns:
        A scalar.
    """
    power = sampled_share * (calibration * (1 - 1 / sampled_share) + 1 / sampled_share)  # β of the paper
    own, against = _logits(user_vectors, own_vectors, negative_vectors, scale)
    negative = nn.functional.softplus(against).masked_fill(blocked, 0).sum(dim=1)  # (R,)
    count = (~blocked).sum(dim=1) + 1
    loss: Tensor = ((power * nn.functional.softplus(-own) + negative) / count).mean()
    return loss


def _logits(users: Tensor, own: Tensor, negatives: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) of the positives, (R, C) of the negatives."""
    users = scale * users
    return (users * own).sum(dim=1), users @ negatives.T
