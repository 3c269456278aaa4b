"""A model of the demo's sizes for a shop that nobody trained on: towers set by hand, a ranker of random weights.

A user tower of random weights would ask for places where no items are. This one is set so that its output is close to

    normalise(newest event's vector + MEAN_WEIGHT · mean of the event vectors) + a little of everything else

through the same modules, in the same number of operations as a trained one: attention asks with zero queries, so that
every event weighs the same; its values and outputs carry the identity; the closing MLPs, the type, gap, hour, user and
context tables and the request's features are small random numbers. The cost of a request does not depend on weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.benchmarks.synthetic_shop import AS_OF_S, SEED
from towers.features.items import ItemEncoder
from towers.features.vocabularies import Vocabulary
from towers.learning_data import Encoders
from towers.model import TrainedModel, ranker_shape
from towers.models.encoders import SelfAttentionEncoder, _Block
from towers.models.item_tower import ItemTower
from towers.models.ranker import Ranker
from towers.models.user_tower import UserTower
from towers.schema import ShopConfig

ATTRIBUTE_VALUES = {
    "department": 28,
    "product_category": 300,
    "product_type": 2_300,
    "brand": 2,
    "manufacturer_id": 6_000,
    "package_size": 4_000,
}
"""How many values each attribute of the demo's catalogue has, about."""
USER_ATTRIBUTE_VALUES = 8
MEAN_WEIGHT = 4.0
"""The weight of the history's mean against the newest event."""
NOISE = 0.02
"""Deviation of what stands beside the history in the user's embedding, against about 1 of the history itself."""


def attribute_value(name: str, code: int) -> str:
    """The text of an attribute's value; codes begin at 1."""
    return f"{name}-{code:05d}"


def make_model(shop: ShopConfig) -> TrainedModel:
    """The model for a synthetic catalogue, under the demo's settings."""
    settings = shop.learning
    encoders = _encoders(shop)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        item_tower = ItemTower(encoders.item_shape, settings.towers.dimension, settings.towers.id_dropout)
        user_tower = UserTower(encoders.user_shape, settings.towers, settings.features)
        ranker = Ranker(ranker_shape(settings))
        with torch.inference_mode():
            _set_user_tower(user_tower)
    return TrainedModel(
        settings, encoders, item_tower.eval(), user_tower.eval(), ranker.eval(), AS_OF_S, AS_OF_S, {"synthetic": True}
    )


def _encoders(shop: ShopConfig) -> Encoders:
    users = shop.users.categorical if shop.users is not None else ()
    return Encoders(
        items=ItemEncoder(
            ids=Vocabulary(()),
            categorical={
                name: Vocabulary(tuple(attribute_value(name, code) for code in range(1, ATTRIBUTE_VALUES[name] + 1)))
                for name in shop.items.categorical
            },
            numeric={},
            text=(),
        ),
        user_attributes={
            name: Vocabulary(tuple(attribute_value(name, code) for code in range(1, USER_ATTRIBUTE_VALUES + 1)))
            for name in users
        },
        contexts={},
        event_types=("purchase",),
        target_event_types=("purchase",),
    )


def _set_user_tower(tower: UserTower) -> None:
    dimension = tower.event_in.in_features
    identity = torch.eye(dimension)
    for parameter in tower.parameters():
        parameter.normal_(std=NOISE)
    _set(tower.event_in, identity * dimension**0.5)  # unit vectors become numbers of about 1
    encoder = tower.encoder
    if not isinstance(encoder, SelfAttentionEncoder):
        raise TypeError(f"the synthetic model sets a self-attention encoder, not {type(encoder).__name__}")
    for block in encoder.blocks:
        assert isinstance(block, _Block)
        _set(block.query, torch.zeros(dimension, dimension))  # zero queries: every event weighs the same
        block.key_value.weight[dimension:] = identity
        block.key_value.bias.zero_()
        _set(block.out, identity * MEAN_WEIGHT)
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()


def _set(linear: nn.Linear, weight: Tensor) -> None:
    linear.weight.copy_(weight)
    linear.bias.zero_()
