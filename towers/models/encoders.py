"""Sequence encoders: the newest events of B shoppers → one vector each. One interface, one contract suite.

Every encoder maps `(events (B, N, D), present (B, N))` to `(B, D)`; events stand oldest first and are padded in
front. A shopper without events gets zeros, so that the rest of the user tower decides alone.

All are causal: `every_position` gives `(B, N, D)`, at each event what would be said if it were the newest, so that
training can learn from all of a sequence in one pass.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from towers.models.rows import rows_of
from towers.settings import TowerSettings

KERNEL_EVENTS = 3
"""Events that one convolution sees."""


class SequenceEncoder(nn.Module):
    """What every encoder offers."""

    def forward(self, events: Tensor, present: Tensor) -> Tensor:
        """(B, N, D), (B, N) bool → (B, D), at the newest event."""
        return self.every_position(events, present)[:, -1]

    def every_position(self, events: Tensor, present: Tensor) -> Tensor:
        """(B, N, D), (B, N) bool → (B, N, D), at each event as if it were the newest; zeros where padded."""
        raise NotImplementedError


class MeanEncoder(SequenceEncoder):
    """The mean of the event vectors, newer ones weighing more by a learned factor a place."""

    def __init__(self, dimension: int, length_max: int) -> None:
        super().__init__()
        self.weight_log = nn.Parameter(torch.zeros(length_max))
        self.out = nn.Linear(dimension, dimension)

    def forward(self, events: Tensor, present: Tensor) -> Tensor:
        """As in the interface; one row of weights."""
        weight = torch.exp(self.weight_log[-events.shape[1] :]) * present  # (B, N)
        weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-6)
        mean = torch.einsum("bn,bnd->bd", weight, events)
        encoded: Tensor = self.out(mean) * present.any(dim=1, keepdim=True)  # (B, D)
        return encoded

    def every_position(self, events: Tensor, present: Tensor) -> Tensor:
        """As in the interface; a row of weights a position, which depend on the distance alone."""
        length = events.shape[1]
        place = torch.arange(length, device=events.device)
        distance = place[:, None] - place  # (N, N), newer event by older
        weight_log = rows_of(self.weight_log.flip(0)[:, None], distance.clamp_min(0))[..., 0]  # (N, N)
        by_distance = torch.exp(weight_log) * (distance >= 0)
        weight = by_distance * present[:, None, :]  # (B, N, N)
        weight = weight / weight.sum(dim=2, keepdim=True).clamp_min(1e-6)
        encoded: Tensor = self.out(weight @ events) * present[:, :, None]  # (B, N, D)
        return encoded


class CnnEncoder(SequenceEncoder):
    """Causal dilated convolutions with residuals (NextItNet, Yuan et al. 2019).

    Dilations 1, 2, 4, … go on until the newest position sees all N events; `blocks` such passes follow each other.
    """

    def __init__(self, dimension: int, length_max: int, blocks: int, dropout: float) -> None:
        super().__init__()
        dilations = [1]
        while 1 + (KERNEL_EVENTS - 1) * sum(dilations) < length_max:
            dilations.append(2 * dilations[-1])
        self.layers = nn.ModuleList(_Convolution(dimension, dilation, dropout) for dilation in dilations * blocks)
        self.norm = nn.LayerNorm(dimension)

    def every_position(self, events: Tensor, present: Tensor) -> Tensor:
        """As in the interface."""
        there = present[:, :, None]
        x = events * there
        for layer in self.layers:
            x = layer(x, there)
        encoded: Tensor = self.norm(x) * there  # (B, N, D)
        return encoded


class _Convolution(nn.Module):
    """Norm, causal convolution, GELU and a linear layer, added to what came in: (B, N, D) → (B, N, D)."""

    def __init__(self, dimension: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.before = (KERNEL_EVENTS - 1) * dilation
        self.norm = nn.LayerNorm(dimension)
        self.convolution = nn.Conv1d(dimension, dimension, KERNEL_EVENTS, dilation=dilation)
        self.out = nn.Linear(dimension, dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """`there` (B, N, 1) is False where padded: a norm's and a layer's bias must not be read as events."""
        normed = (self.norm(x) * there).transpose(1, 2)  # (B, D, N)
        seen = self.convolution(nn.functional.pad(normed, (self.before, 0))).transpose(1, 2)
        after: Tensor = x + self.dropout(self.out(nn.functional.gelu(seen)))
        return after


class GruEncoder(SequenceEncoder):
    """Gated recurrent units over the events (GRU4Rec, Hidasi et al. 2016); `blocks` layers."""

    def __init__(self, dimension: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(dimension, dimension, num_layers=blocks, batch_first=True)
        self.norm = nn.LayerNorm(dimension)

    def every_position(self, events: Tensor, present: Tensor) -> Tensor:
        """As in the interface; the padding is moved behind the events, where the recursion has passed them already."""
        count, length = present.shape
        if count == 0:
            return events
        padding = length - present.sum(dim=1, keepdim=True)  # (B, 1)
        place = torch.arange(length, device=events.device)
        there = (place + padding).clamp_max(length - 1)  # (B, N) from where each place is filled
        back = (place - padding).clamp_min(0)
        wide = (-1, -1, events.shape[2])
        states, _ = self.gru(self.dropout(events.gather(1, there[:, :, None].expand(wide))))  # (B, N, D)
        encoded: Tensor = self.norm(states.gather(1, back[:, :, None].expand(wide))) * present[:, :, None]
        return encoded


class _Block(nn.Module):
    """Pre-norm self-attention and MLP; asked for the last position, it computes queries for that one alone."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dimension)
        self.query = nn.Linear(dimension, dimension)
        self.key_value = nn.Linear(dimension, 2 * dimension)
        self.out = nn.Linear(dimension, dimension)
        self.norm_mlp = nn.LayerNorm(dimension)
        self.mlp = nn.Sequential(nn.Linear(dimension, 2 * dimension), nn.GELU(), nn.Linear(2 * dimension, dimension))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, last_only: bool) -> Tensor:
        """x (B, N, D), mask (B, 1 or H, N, N): True where attention may look, or what is added to its scores.

        Returns (B, N, D), or (B, 1, D) if `last_only`.
        """
        normed = self.norm_attention(x)
        asked = normed[:, -1:] if last_only else normed  # (B, Q, D)
        query = self._split(self.query(asked))
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, dim=2))
        if last_only:
            mask = mask[:, :, -1:]  # (B, 1, 1, N)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = attended.transpose(1, 2).flatten(2)  # (B, Q, D)
        kept = x[:, -1:] if last_only else x
        kept = kept + self.dropout(self.out(attended))
        after: Tensor = kept + self.dropout(self.mlp(self.norm_mlp(kept)))
        return after

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)  # (B, H, N, D / H)


class SelfAttentionEncoder(SequenceEncoder):
    """A causal transformer over the events (SASRec, Kang and McAuley 2018).

    Order comes in by a vector for each place, counted from the newest event; or by a bias of attention for each
    distance between two events (the scalar form of T5, Raffel et al. 2020), which is alike at every position of a
    sequence and therefore what learning from all of them needs. Where only the newest is asked, the last block
    computes it alone.
    """

    def __init__(
        self,
        dimension: int,
        length_max: int,
        blocks: int,
        heads: int,
        dropout: float,
        order: Literal["place", "distance"] = "place",
    ) -> None:
        super().__init__()
        by_place = order == "place"
        self.position = nn.Parameter(torch.randn(length_max, dimension) * 0.02) if by_place else None
        self.distance = None if by_place else nn.Parameter(torch.zeros(blocks, heads, length_max))
        self.blocks = nn.ModuleList(_Block(dimension, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, events: Tensor, present: Tensor) -> Tensor:
        """As in the interface."""
        x = self._attended(events, present, last_only=True)
        encoded: Tensor = self.norm(x[:, -1]) * present[:, -1:]  # (B, D)
        return encoded

    def every_position(self, events: Tensor, present: Tensor) -> Tensor:
        """As in the interface."""
        x = self._attended(events, present, last_only=False)
        encoded: Tensor = self.norm(x) * present[:, :, None]  # (B, N, D)
        return encoded

    def _attended(self, events: Tensor, present: Tensor, last_only: bool) -> Tensor:
        length = events.shape[1]
        if self.position is not None:
            events = events + self.position[-length:]
        x: Tensor = self.dropout(events) * present[:, :, None]
        place = torch.arange(length, device=events.device)
        distance = place[:, None] - place  # (N, N), newer event by older
        # Each position sees itself too, so that a padded row never softmaxes over nothing.
        mask = (((distance >= 0) & present[:, None, :]) | (distance == 0))[:, None]  # (B, 1, N, N)
        for number, block in enumerate(self.blocks):
            if self.distance is not None:
                bias = rows_of(self.distance[number].T, distance.clamp_min(0)).permute(2, 0, 1)  # (H, N, N)
                looks = torch.where(mask, bias, -torch.inf)  # (B, H, N, N)
            else:
                looks = mask
            x = block(x, looks, last_only=last_only and number == len(self.blocks) - 1)
        return x


def sequence_encoder(towers: TowerSettings, length_max: int) -> SequenceEncoder:
    """The encoder that the settings name, for up to `length_max` events."""
    dimension = towers.dimension
    if towers.encoder == "mean":
        return MeanEncoder(dimension, length_max)
    if towers.encoder == "cnn":
        return CnnEncoder(dimension, length_max, towers.blocks, towers.dropout)
    if towers.encoder == "gru":
        return GruEncoder(dimension, towers.blocks, towers.dropout)
    order: Literal["place", "distance"] = "distance" if towers.positions == "all" else "place"
    return SelfAttentionEncoder(dimension, length_max, towers.blocks, towers.heads, towers.dropout, order)
