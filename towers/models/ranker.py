"""The ranker: an MLP whose first layer is split, because most of its input does not change with the pair.

    hidden = relu(W_request · request + W_item · item + W_pair · pair + b)

`W_request · request + b` is computed once a request and `W_item · item` once a generation (`item_part`, stored), so a
candidate costs only its pair features (P of them, few) before the second layer. The product
user ∘ item would belong to the pair; it did not pay on validation (docs/log.md).

The last layer has one output a head: that the item is bought, and what else `[ranker.heads]` asks for. The heads share
both hidden layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class RankerShape:
    """Widths of the three inputs: request (user vector and request features), item (vector and statistics), pair.

    `vector` of the first columns of request and of item are an embedding; training damps them together. `heads` are the
    outputs, the first of them "buys"; `dropout` is the share of hidden units that training drops.
    """

    request: int
    item: int
    pair: int
    hidden: tuple[int, int]
    vector: int = 0
    heads: tuple[str, ...] = ("buys",)
    dropout: float = 0.0


class Ranker(nn.Module):
    """Calibrated probability that the shopper buys the candidate within the horizon, and the further heads.

    Inputs are standardised by stored means and deviations; `calibration` (a, b) maps the logit x to a·x + b, a row of
    `further_calibration` (H - 1, 2) does so with each further head.
    """

    request_mean: Tensor
    request_scale: Tensor
    item_mean: Tensor
    item_scale: Tensor
    pair_mean: Tensor
    pair_scale: Tensor
    calibration: Tensor
    further_calibration: Tensor

    def __init__(self, shape: RankerShape) -> None:
        super().__init__()
        self.shape = shape
        first, second = shape.hidden
        self.from_request = nn.Linear(shape.request, first)
        self.from_item = nn.Linear(shape.item, first, bias=False)
        self.from_pair = nn.Linear(shape.pair, first, bias=False)
        self.middle = nn.Linear(first, second)
        self.out = nn.Linear(second, len(shape.heads))
        for name, width in (("request", shape.request), ("item", shape.item), ("pair", shape.pair)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        if len(shape.heads) > 1:
            self.register_buffer("further_calibration", torch.tensor([[1.0, 0.0]]).repeat(len(shape.heads) - 1, 1))

    def request_part(self, request: Tensor) -> Tensor:
        """(B, request) → (B, first), the bias included."""
        part: Tensor = self.from_request((request - self.request_mean) * self.request_scale)
        return part

    def item_part(self, item: Tensor) -> Tensor:
        """(n, item) → (n, first); what the generation stores."""
        part: Tensor = self.from_item((item - self.item_mean) * self.item_scale)
        return part

    def logits(self, request_part: Tensor, item_part: Tensor, pair: Tensor) -> Tensor:
        """Calibrated logits of buying: (B, first), (B, K, first), (B, K, pair) → (B, K)."""
        pair_part = self.from_pair((pair - self.pair_mean) * self.pair_scale)
        return self._heads(request_part[:, None, :] + item_part + pair_part)[..., 0]

    def forward(self, request: Tensor, item: Tensor, pair: Tensor) -> Tensor:
        """The unsplit form, as training runs it: (n, request), (n, item), (n, pair) → (n,) logits of buying."""
        return self.heads(request, item, pair)[:, 0]

    def heads(self, request: Tensor, item: Tensor, pair: Tensor) -> Tensor:
        """The same for all heads, (n, H): logits of "buys" and "buys_again", log1p of money, stars of a rating."""
        stacked = torch.cat(
            [
                (request - self.request_mean) * self.request_scale,
                (item - self.item_mean) * self.item_scale,
                (pair - self.pair_mean) * self.pair_scale,
            ],
            dim=1,
        )
        weight = torch.cat([self.from_request.weight, self.from_item.weight, self.from_pair.weight], dim=1)
        return self._heads(nn.functional.linear(stacked, weight, self.from_request.bias))

    def _heads(self, first: Tensor) -> Tensor:
        """(…, first) before the rectifier → (…, H), calibrated."""
        hidden = self._drop(torch.relu(first))
        hidden = self._drop(torch.relu(self.middle(hidden)))  # (…, second)
        slope, offset = self.calibrations().unbind(1)  # (H,) each
        raw: Tensor = self.out(hidden)
        return raw * slope + offset

    def calibrations(self) -> Tensor:
        """(H, 2) slope and offset of every head."""
        own = self.calibration[None, :]
        return torch.cat([own, self.further_calibration]) if len(self.shape.heads) > 1 else own

    def _drop(self, hidden: Tensor) -> Tensor:
        rate = self.shape.dropout
        return nn.functional.dropout(hidden, rate, self.training) if rate else hidden
