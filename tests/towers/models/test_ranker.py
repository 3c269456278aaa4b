from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from towers.models.ranker import Ranker, RankerShape

SHAPE = RankerShape(request=12, item=9, pair=7, hidden=(16, 8))


@pytest.fixture
def ranker() -> Ranker:
    """Random weights, and every buffer far from its initial value."""
    torch.manual_seed(2)
    made = Ranker(SHAPE).eval()
    for part in ("request", "item", "pair"):
        mean, scale = getattr(made, f"{part}_mean"), getattr(made, f"{part}_scale")
        mean.copy_(torch.randn(mean.shape))
        scale.copy_(torch.rand(scale.shape) * 3)
    made.calibration.copy_(torch.tensor([0.7, -1.3]))
    return made


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(B, request), (B, K, item), (B, K, pair)."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((4, SHAPE.request), (4, 11, SHAPE.item), (4, 11, SHAPE.pair))
    request, item, pair = (torch.randn(shape, generator=generator) for shape in shapes)
    return request, item, pair


def test_split_is_unsplit(ranker: Ranker, inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    request, item, pair = inputs
    split = ranker.logits(ranker.request_part(request), ranker.item_part(item), pair)  # (B, K)
    repeated = request.repeat_interleave(11, dim=0)
    unsplit = ranker(repeated, item.flatten(0, 1), pair.flatten(0, 1)).view(4, 11)
    assert split.dtype == torch.float32
    torch.testing.assert_close(split, unsplit, atol=1e-5, rtol=0)
    assert unsplit.std() > 0.1  # the inputs matter


def test_calibration_is_the_last_step(ranker: Ranker, inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    request, item, pair = inputs
    calibrated = ranker(request, item[:, 0], pair[:, 0])
    ranker.calibration.copy_(torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(calibrated, ranker(request, item[:, 0], pair[:, 0]) * 0.7 - 1.3)


def test_a_constant_input_has_no_say(ranker: Ranker, inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    request, item, pair = inputs
    ranker.pair_scale[2] = 0.0
    other = pair.clone()
    other[:, :, 2] = 1e6
    first = ranker.logits(ranker.request_part(request), ranker.item_part(item), pair)
    assert torch.equal(first, ranker.logits(ranker.request_part(request), ranker.item_part(item), other))


def test_no_candidates_are_no_logits(ranker: Ranker) -> None:
    part = ranker.request_part(torch.zeros(3, SHAPE.request))
    assert ranker.logits(part, torch.zeros(3, 0, 16), torch.zeros(3, 0, SHAPE.pair)).shape == (3, 0)


def test_means_scales_and_calibration_are_stored_with_the_weights(ranker: Ranker) -> None:
    other = Ranker(SHAPE)
    other.load_state_dict(ranker.state_dict())
    assert torch.equal(other.pair_scale, ranker.pair_scale)
    assert other.calibration.tolist() == pytest.approx([0.7, -1.3])


def test_further_heads_leave_the_first_alone_and_are_stored(
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    several = Ranker(replace(SHAPE, heads=("buys", "value")))
    several.further_calibration.copy_(torch.tensor([[2.0, 1.0]]))
    alone = Ranker(SHAPE)
    weights = {name: value for name, value in several.state_dict().items() if name != "further_calibration"}
    weights["out.weight"], weights["out.bias"] = weights["out.weight"][:1], weights["out.bias"][:1]
    alone.load_state_dict(weights)  # a ranker of one head needs nothing more, so that older files are read
    request, item, pair = inputs
    both = several.heads(request, item[:, 0], pair[:, 0])
    torch.testing.assert_close(both[:, 0], alone(request, item[:, 0], pair[:, 0]))
    plain = several.heads(request, item[:, 0], pair[:, 0])[:, 1]
    several.further_calibration.copy_(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(plain, several.heads(request, item[:, 0], pair[:, 0])[:, 1] * 2 + 1)


def test_dropout_is_for_training_alone(inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    ranker = Ranker(replace(SHAPE, dropout=0.5))
    first = [part[:, 0] if part.dim() == 3 else part for part in inputs]
    assert not torch.equal(ranker.train()(*first), ranker(*first))
    assert torch.equal(ranker.eval()(*first), ranker(*first))
