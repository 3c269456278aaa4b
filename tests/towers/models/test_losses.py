from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from towers.models.losses import gbce, log_inclusion, sampled_softmax, shared_softmax


def test_the_loss_is_that_of_each_row_computed_by_hand() -> None:
    users = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    included = torch.tensor([0.9, 0.2, 1.0])
    blocked = torch.tensor([[True, False, True], [False, True, False]])  # each row blocks its own positive, too
    loss = sampled_softmax(users, items, torch.tensor([0, 1]), included.log(), blocked, torch.tensor(3.0))

    def weight(similarity: float, probability: float) -> float:
        return exp(3 * similarity) / probability

    first = -log(weight(1, 0.9) / (weight(1, 0.9) + weight(0, 0.2)))
    second = -log(weight(0.8, 0.2) / (weight(0.6, 0.9) + weight(0.8, 0.2) + weight(-0.6, 1)))
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


def test_a_naive_loop_over_random_rows_finds_the_same() -> None:
    generator = torch.Generator().manual_seed(1)
    rows, columns, dimension = 5, 9, 4
    users = torch.nn.functional.normalize(torch.randn(rows, dimension, generator=generator), dim=1)
    items = torch.nn.functional.normalize(torch.randn(columns, dimension, generator=generator), dim=1)
    log_included = torch.randn(columns, generator=generator)
    positive = torch.randint(columns, (rows,), generator=generator)
    blocked = torch.rand(rows, columns, generator=generator) < 0.3
    expected = 0.0
    for row in range(rows):
        logits = {
            column: 5.0 * float(users[row] @ items[column]) - float(log_included[column])
            for column in range(columns)
            if column == int(positive[row]) or not blocked[row, column]
        }
        expected += (log(sum(exp(logit) for logit in logits.values())) - logits[int(positive[row])]) / rows
    loss = sampled_softmax(users, items, positive, log_included, blocked, torch.tensor(5.0))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_blocked_candidate_gets_no_gradient_from_that_row() -> None:
    users = torch.tensor([[1.0, 0.0]])
    items = torch.eye(2).repeat(2, 1)[:3].clone().requires_grad_()
    blocked = torch.tensor([[False, True, False]])
    sampled_softmax(users, items, torch.tensor([0]), torch.zeros(3), blocked, torch.tensor(1.0)).backward()  # type: ignore[no-untyped-call]
    assert items.grad is not None
    assert items.grad.any(dim=1).tolist() == [True, False, True]


USERS = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
OWN = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
NEGATIVES = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
BLOCKED = torch.tensor([[False, False, True], [True, False, False]])


def test_against_shared_negatives_a_row_is_its_positive_and_what_is_not_blocked() -> None:
    loss = shared_softmax(USERS, OWN, NEGATIVES, BLOCKED, torch.tensor(2.0))
    first = -log(exp(1.6) / (exp(1.6) + exp(0) + exp(-2)))
    second = -log(exp(1.6) / (exp(1.6) + exp(-1.2) + exp(1.2)))
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


def test_a_row_without_negatives_has_nothing_to_learn() -> None:
    own = OWN.clone().requires_grad_()
    loss = shared_softmax(USERS, own, NEGATIVES, torch.ones(2, 3, dtype=torch.bool), torch.tensor(2.0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert own.grad is not None
    assert not own.grad.any()


@pytest.mark.parametrize(("calibration", "power"), [(0.0, 1.0), (0.75, 0.25 * (0.75 * -3 + 4)), (1.0, 0.25)])
def test_gbce_is_that_of_each_row_computed_by_hand(calibration: float, power: float) -> None:
    """With a quarter of the items sampled; t = 0 is plain binary cross-entropy, t = 1 raises to the share itself."""
    loss = gbce(USERS, OWN, NEGATIVES, BLOCKED, torch.tensor(2.0), 0.25, calibration)

    def sure(logit: float) -> float:
        return 1 / (1 + exp(-logit))

    first = -(log(sure(1.6) ** power) + log(1 - sure(0)) + log(1 - sure(-2))) / 3
    second = -(log(sure(1.6) ** power) + log(1 - sure(-1.2)) + log(1 - sure(1.2))) / 3
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


def test_inclusion_is_the_share_of_steps_that_draw_the_item() -> None:
    generator = torch.Generator().manual_seed(2)
    share, positives, uniform, steps = _zipf(20), 12, 4, 4_000
    seen = torch.zeros(20)
    for _ in range(steps):
        seen[_draw(share, positives, uniform, generator)[0]] += 1 / steps
    torch.testing.assert_close(log_inclusion(share, positives, uniform, 20).exp(), seen, atol=0.03, rtol=0)


@pytest.mark.parametrize(("positives", "uniform"), [(64, 8), (8, 8)])
def test_the_correction_removes_the_bias_of_popularity(positives: int, uniform: int) -> None:
    """At the true distribution the mean gradient vanishes; without the correction it pushes popular items down."""
    share = _zipf(30)
    correction = log_inclusion(share, positives, uniform, 30)
    corrected = _mean_gradient(share, correction, positives, uniform)
    uncorrected = _mean_gradient(share, torch.zeros(30), positives, uniform)
    assert corrected.abs().sum() < 0.06
    assert uncorrected.abs().sum() > 0.1
    assert uncorrected[0] > 0.02  # descent lowers the most popular item's logit
    assert abs(corrected[0]) < 0.01


def _zipf(count: int) -> Tensor:
    share = 1 / torch.arange(1.0, count + 1)
    return share / share.sum()


def _draw(share: Tensor, positives: int, uniform: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The distinct candidates of a step, and the column of each positive among them."""
    drawn = torch.multinomial(share, positives, replacement=True, generator=generator)
    negatives = torch.randint(len(share), (uniform,), generator=generator)
    candidates, place = torch.unique(torch.cat([drawn, negatives]), return_inverse=True)
    return candidates, place[:positives]


def _mean_gradient(share: Tensor, correction: Tensor, positives: int, uniform: int, steps: int = 1_000) -> Tensor:
    """Mean gradient of the items' logits where the model already says the truth, log P(item)."""
    generator = torch.Generator().manual_seed(3)
    logits = share.log().requires_grad_()
    items = torch.eye(len(share))
    for _ in range(steps):
        candidates, positive = _draw(share, positives, uniform, generator)
        users = logits.expand(positives, -1)
        blocked = torch.zeros(positives, len(candidates), dtype=torch.bool)
        loss = sampled_softmax(users, items[candidates], positive, correction[candidates], blocked, torch.tensor(1.0))
        (loss / steps).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return logits.grad
