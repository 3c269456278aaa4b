"""One suite over every sequence encoder: the newest events of a shopper → one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor

from towers.models.encoders import (
    CnnEncoder,
    GruEncoder,
    MeanEncoder,
    SelfAttentionEncoder,
    SequenceEncoder,
    sequence_encoder,
)
from towers.settings import TowerSettings

DIMENSION, LENGTH = 8, 6
BY_PLACE: dict[str, Callable[[], SequenceEncoder]] = {
    "self_attention": lambda: SelfAttentionEncoder(DIMENSION, LENGTH, blocks=1, heads=2, dropout=0.1),
    "self_attention, 2 blocks": lambda: SelfAttentionEncoder(DIMENSION, LENGTH, blocks=2, heads=2, dropout=0.1),
}
SAME_EVERYWHERE: dict[str, Callable[[], SequenceEncoder]] = {
    "mean": lambda: MeanEncoder(DIMENSION, LENGTH),
    "cnn": lambda: CnnEncoder(DIMENSION, LENGTH, blocks=1, dropout=0.1),
    "cnn, 2 blocks": lambda: CnnEncoder(DIMENSION, LENGTH, blocks=2, dropout=0.1),
    "gru": lambda: GruEncoder(DIMENSION, blocks=1, dropout=0.1),
    "gru, 2 blocks": lambda: GruEncoder(DIMENSION, blocks=2, dropout=0.1),
    "self_attention by distance": lambda: SelfAttentionEncoder(DIMENSION, LENGTH, 1, 2, 0.1, "distance"),
    "self_attention by distance, 2 blocks": lambda: SelfAttentionEncoder(DIMENSION, LENGTH, 2, 2, 0.1, "distance"),
}
"""What they say at a position does not depend on how many events follow."""
ENCODERS = BY_PLACE | SAME_EVERYWHERE
COUNTS = [0, 1, 3, LENGTH, 0, 2]
"""How many events each shopper of the batch has."""


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> SequenceEncoder:
    """An encoder with weights far from their initial values, so that no part is idle."""
    return made_of(request.param)


def made_of(name: str) -> SequenceEncoder:
    torch.manual_seed(3)
    made = ENCODERS[name]().eval()
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


def test_a_batch_is_its_single_shoppers(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
    together = encoder(events, present)
    assert together.shape == (len(COUNTS), DIMENSION)
    for place in range(len(COUNTS)):
        alone = encoder(events[place : place + 1], present[place : place + 1])
        torch.testing.assert_close(together[place : place + 1], alone, atol=1e-6, rtol=0)


def test_what_stands_at_padded_places_is_ignored(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
    other = torch.where(present[:, :, None], events, torch.full_like(events, 7.0))
    assert torch.equal(encoder(events, present), encoder(other, present))


def test_the_length_of_the_padding_does_not_matter(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
    for place, count in enumerate(COUNTS):
        if count:
            shopper = slice(place, place + 1)
            long = encoder(events[shopper], present[shopper])
            short = encoder(events[shopper, -count:], present[shopper, -count:])
            torch.testing.assert_close(long, short, atol=1e-6, rtol=0)


def test_a_shopper_without_events_gets_zeros(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
    encoded = encoder(events, present)
    empty = torch.tensor(COUNTS) == 0
    assert not encoded[empty].any()
    assert encoded[~empty].any(dim=1).all()


def test_an_empty_batch_stays_empty(encoder: SequenceEncoder) -> None:
    assert encoder(torch.zeros(0, LENGTH, DIMENSION), torch.zeros(0, LENGTH, dtype=torch.bool)).shape == (0, DIMENSION)


def test_the_order_of_events_matters(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
    full = slice(3, 4)
    assert COUNTS[3] == LENGTH
    forward, backward = encoder(events[full], present[full]), encoder(events[full].flip(1), present[full])
    assert (forward - backward).abs().max() > 1e-3


def test_every_event_counts(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
    for place in range(LENGTH):
        changed = events.clone()
        changed[3, place] = -changed[3, place]
        assert (encoder(changed, present)[3] - encoder(events, present)[3]).abs().max() > 1e-4


def test_gradients_are_finite_with_empty_histories(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
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


def test_the_newest_position_is_that_of_all_positions(
    encoder: SequenceEncoder, events: Tensor, present: Tensor
) -> None:
    everywhere = encoder.every_position(events, present)
    assert everywhere.shape == (len(COUNTS), LENGTH, DIMENSION)
    assert not everywhere[~present].any()
    torch.testing.assert_close(everywhere[:, -1], encoder(events, present), atol=1e-5, rtol=0)


def test_no_position_sees_what_follows_it(encoder: SequenceEncoder, events: Tensor, present: Tensor) -> None:
    before = encoder.every_position(events, present)
    for place in range(1, LENGTH):
        changed = events.clone()
        changed[:, place:] = 5.0
        after = encoder.every_position(changed, present)
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-6, rtol=0)
        assert (after[3, place] - before[3, place]).abs().max() > 1e-4


@pytest.mark.parametrize("name", SAME_EVERYWHERE)
def test_a_position_says_what_it_would_say_as_the_newest(name: str, events: Tensor, present: Tensor) -> None:
    """So that what is learned at all positions of a sequence is what serving asks at its end."""
    encoder = made_of(name)
    everywhere = encoder.every_position(events, present)
    for end in range(1, LENGTH + 1):
        torch.testing.assert_close(
            everywhere[:, end - 1], encoder(events[:, :end], present[:, :end]), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("encoder", ["mean", "cnn", "gru", "self_attention"])
def test_settings_name_the_encoder(encoder: Literal["mean", "cnn", "gru", "self_attention"]) -> None:
    made = sequence_encoder(TowerSettings(dimension=DIMENSION, encoder=encoder, positions="all"), LENGTH)
    kinds = {"mean": MeanEncoder, "cnn": CnnEncoder, "gru": GruEncoder, "self_attention": SelfAttentionEncoder}
    assert type(made) is kinds[encoder]
    if isinstance(made, SelfAttentionEncoder):
        assert made.position is None
        of_visits = sequence_encoder(TowerSettings(dimension=DIMENSION, positions="visits"), LENGTH)
        assert isinstance(of_visits, SelfAttentionEncoder)
        assert of_visits.distance is None


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 50])
def test_convolutions_reach_the_oldest_event(length: int) -> None:
    torch.manual_seed(1)
    encoder = CnnEncoder(4, length, blocks=1, dropout=0.0).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    events = torch.randn(1, length, 4, requires_grad=True)
    encoder(events, torch.ones(1, length, dtype=torch.bool))[0, 0].backward()
    assert events.grad is not None
    assert events.grad[0, 0].any()
