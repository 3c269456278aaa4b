"""One suite over every sequence encoder: the newest events of a shopper → one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from towers.models.encoders import MeanEncoder, SelfAttentionEncoder

DIMENSION, LENGTH = 8, 6
ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: MeanEncoder(DIMENSION, LENGTH),
    "self_attention": lambda: SelfAttentionEncoder(DIMENSION, LENGTH, blocks=1, heads=2, dropout=0.1),
    "self_attention, 2 blocks": lambda: SelfAttentionEncoder(DIMENSION, LENGTH, blocks=2, heads=2, dropout=0.1),
}
COUNTS = [0, 1, 3, LENGTH, 0, 2]
"""How many events each shopper of the batch has."""


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    """An encoder with weights far from their initial values, so that no part is idle."""
    torch.manual_seed(3)
    made = ENCODERS[request.param]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return made


@pytest.fixture
def events() -> Tensor:
    """(B, N, D), something at the padded places too."""
    return torch.randn(len(COUNTS), LENGTH, DIMENSION, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def present() -> Tensor:
    """(B, N), padded in front."""
    return torch.arange(LENGTH) >= LENGTH - torch.tensor(COUNTS)[:, None]


def test_a_batch_is_its_single_shoppers(encoder: nn.Module, events: Tensor, present: Tensor) -> None:
    together = encoder(events, present)
    assert together.shape == (len(COUNTS), DIMENSION)
    for place in range(len(COUNTS)):
        alone = encoder(events[place : place + 1], present[place : place + 1])
        torch.testing.assert_close(together[place : place + 1], alone, atol=1e-6, rtol=0)


def test_what_stands_at_padded_places_is_ignored(encoder: nn.Module, events: Tensor, present: Tensor) -> None:
    other = torch.where(present[:, :, None], events, torch.full_like(events, 7.0))
    assert torch.equal(encoder(events, present), encoder(other, present))


def test_the_length_of_the_padding_does_not_matter(encoder: nn.Module, events: Tensor, present: Tensor) -> None:
    for place, count in enumerate(COUNTS):
        if count:
            shopper = slice(place, place + 1)
            long = encoder(events[shopper], present[shopper])
            short = encoder(events[shopper, -count:], present[shopper, -count:])
            torch.testing.assert_close(long, short, atol=1e-6, rtol=0)


def test_a_shopper_without_events_gets_zeros(encoder: nn.Module, events: Tensor, present: Tensor) -> None:
    encoded = encoder(events, present)
    empty = torch.tensor(COUNTS) == 0
    assert not encoded[empty].any()
    assert encoded[~empty].any(dim=1).all()


def test_an_empty_batch_stays_empty(encoder: nn.Module) -> None:
    assert encoder(torch.zeros(0, LENGTH, DIMENSION), torch.zeros(0, LENGTH, dtype=torch.bool)).shape == (0, DIMENSION)


def test_the_order_of_events_matters(encoder: nn.Module, events: Tensor, present: Tensor) -> None:
    full = slice(3, 4)
    assert COUNTS[3] == LENGTH
    forward, backward = encoder(events[full], present[full]), encoder(events[full].flip(1), present[full])
    assert (forward - backward).abs().max() > 1e-3


def test_every_event_counts(encoder: nn.Module, events: Tensor, present: Tensor) -> None:
    for place in range(LENGTH):
        changed = events.clone()
        changed[3, place] = -changed[3, place]
        assert (encoder(changed, present)[3] - encoder(events, present)[3]).abs().max() > 1e-4


def test_gradients_are_finite_with_empty_histories(encoder: nn.Module, events: Tensor, present: Tensor) -> None:
    encoder.train()
    events.requires_grad_()
    encoder(events, present).square().sum().backward()
    assert events.grad is not None
    assert torch.isfinite(events.grad).all()
    assert not events.grad[~present].any()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_training_drops_at_random_and_serving_does_not(events: Tensor, present: Tensor) -> None:
    encoder = SelfAttentionEncoder(DIMENSION, LENGTH, blocks=1, heads=2, dropout=0.5)
    assert not torch.equal(encoder(events, present), encoder(events, present))
    encoder.eval()
    assert torch.equal(encoder(events, present), encoder(events, present))


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_self_attention_at_the_last_position_alone_is_that_of_all_positions(
    blocks: int, events: Tensor, present: Tensor
) -> None:
    torch.manual_seed(5)
    encoder = SelfAttentionEncoder(DIMENSION, LENGTH, blocks=blocks, heads=2, dropout=0.1).eval()
    torch.testing.assert_close(encoder(events, present), encoder(events, present, full=True), atol=1e-6, rtol=0)
