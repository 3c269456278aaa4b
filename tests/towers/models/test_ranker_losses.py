from __future__ import annotations

import math

import pytest
import torch

from towers.models.ranker_losses import binary_loss, listwise_loss, squared_loss


def test_the_binary_loss_weighs_the_positives() -> None:
    logit, label = torch.tensor([0.0, math.log(3)]), torch.tensor([1.0, 0.0])
    positive, negative = math.log(2), math.log(4)  # the second is believed at 3/4
    assert float(binary_loss(logit, label, 1.0)) == pytest.approx((positive + negative) / 2)
    assert float(binary_loss(logit, label, 5.0)) == pytest.approx((5 * positive + negative) / 2)


def test_the_listwise_loss_by_hand() -> None:
    """Request 0: shares 1/4, 3/4, the second bought. Request 1: 1/2, 1/4, 1/4, the first two. Request 2: nothing."""
    logit = torch.log(torch.tensor([1.0, 3.0, 2.0, 1.0, 1.0, 9.0]))
    label = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    request = torch.tensor([0, 0, 1, 1, 1, 2])
    expected = (-math.log(3 / 4) - (math.log(1 / 2) + math.log(1 / 4)) / 2) / 2
    assert float(listwise_loss(logit, label, request, 3)) == pytest.approx(expected)


def test_the_listwise_loss_knows_no_level_and_does_not_overflow() -> None:
    logit, label = torch.tensor([200.0, 90.0, -300.0]), torch.tensor([1.0, 0.0, 1.0])
    request = torch.tensor([0, 0, 0])
    loss = listwise_loss(logit, label, request, 1)
    assert float(loss) == pytest.approx((0 + 500) / 2)
    torch.testing.assert_close(listwise_loss(logit + 1_000, label, request, 1), loss)


def test_the_listwise_gradient_is_share_less_target() -> None:
    logit = torch.log(torch.tensor([1.0, 3.0])).requires_grad_()
    listwise_loss(logit, torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), 1).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logit.grad, torch.tensor([1 / 4 - 1, 3 / 4]))


def test_no_positive_at_all_is_no_loss() -> None:
    logit = torch.zeros(2, requires_grad=True)
    loss = listwise_loss(logit, torch.zeros(2), torch.tensor([0, 1]), 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert logit.grad is not None
    assert logit.grad.tolist() == [0, 0]


def test_unknown_targets_are_left_out_of_the_squared_loss() -> None:
    prediction = torch.tensor([1.0, 5.0, 2.0], requires_grad=True)
    loss = squared_loss(prediction, torch.tensor([3.0, math.nan, 2.5]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx((4 + 0.25) / 2)
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [-2, 0, -0.5]
    assert float(squared_loss(torch.ones(2), torch.full((2,), math.nan))) == 0
