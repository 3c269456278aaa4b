"""Smaller rankers: half-precision item part, 8-bit weights, pruned units; each returns a ranker of the same interface.

Sizes and arithmetic are those of the split form: a candidate costs P · H products for its pair inputs, H · H' and H'.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from towers.models.ranker import Ranker


@dataclass(frozen=True)
class Cost:
    """Bytes of the weights, bytes of the stored part of an item, multiplications for a candidate."""

    weight_bytes: int
    item_bytes: int
    products: int

    @classmethod
    def of(cls, ranker: Ranker, weight_bits: int = 32, item_bits: int = 32) -> Cost:
        """Of a ranker that is stored at such a width."""
        (first, second), pair = ranker.shape.hidden, ranker.shape.pair
        count = sum(parameter.numel() for parameter in ranker.parameters())
        return cls(count * weight_bits // 8, first * item_bits // 8, pair * first + first * second + second)


class HalfItemPart(Ranker):
    """As if the generation stored the items' part in float16."""

    def heads(self, request: Tensor, item: Tensor, pair: Tensor) -> Tensor:
        """(n, H) as `Ranker.heads`, from the split form."""
        part = self.item_part(item).half().float()
        pair_part = self.from_pair((pair - self.pair_mean) * self.pair_scale)
        return self._heads(self.request_part(request) + part + pair_part)


def with_half_item_part(ranker: Ranker) -> Ranker:
    """The same weights; the items' part goes through float16."""
    made = HalfItemPart(ranker.shape)
    made.load_state_dict(ranker.state_dict())
    return made.eval()


def with_int8_weights(ranker: Ranker) -> Ranker:
    """Every weight rounded to 255 steps of its output's largest one; biases and activations stay."""
    made = copy.deepcopy(ranker)
    with torch.no_grad():
        for layer in (made.from_request, made.from_item, made.from_pair, made.middle, made.out):
            step = layer.weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
            layer.weight.copy_((layer.weight / step).round() * step)
    return made


def pruned(ranker: Ranker, kept: int, inputs: tuple[Tensor, Tensor, Tensor]) -> Ranker:
    """The `kept` units of the first layer that move the second most on the inputs (n, ·); the others' means stay.

    A unit's weight is the deviation of its activation times the norm of what leaves it.
    """
    request, item, pair = inputs
    with torch.inference_mode():
        pair_part = ranker.from_pair((pair - ranker.pair_mean) * ranker.pair_scale)
        active = torch.relu(ranker.request_part(request) + ranker.item_part(item) + pair_part)  # (n, H)
        worth = active.std(dim=0) * ranker.middle.weight.norm(dim=0)
        order = worth.argsort(descending=True)
        chosen, dropped = order[:kept].sort().values, order[kept:]
        lost = ranker.middle.weight[:, dropped] @ active[:, dropped].mean(dim=0)
    made = Ranker(replace(ranker.shape, hidden=(kept, ranker.shape.hidden[1])))
    state = {name: value.clone() for name, value in ranker.state_dict().items()}
    for name in ("from_request.weight", "from_request.bias", "from_item.weight", "from_pair.weight"):
        state[name] = state[name][chosen]
    state["middle.weight"] = state["middle.weight"][:, chosen]
    state["middle.bias"] = state["middle.bias"] + lost
    made.load_state_dict(state)
    return made.eval()
