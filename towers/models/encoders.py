"""Sequence encoders: the newest events of B shoppers → one vector each. One interface, one contract suite.

Every encoder maps `(events (B, N, D), present (B, N))` to `(B, D)`; events stand oldest first and are padded in
front. A shopper without events gets zeros, so that the rest of the user tower decides alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanEncoder(nn.Module):
    """The mean of the event vectors, newer ones weighing more by a learned factor a place."""

    def __init__(self, dimension: int, length_max: int) -> None:
        super().__init__()
        self.weight_log = nn.Parameter(torch.zeros(length_max))
        self.out = nn.Linear(dimension, dimension)

    def forward(self, events: Tensor, present: Tensor) -> Tensor:
        """(B, N, D), (B, N) bool → (B, D)."""
        weight = torch.exp(self.weight_log[-events.shape[1] :]) * present  # (B, N)
        weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-6)
        mean = torch.einsum("bn,bnd->bd", weight, events)
        encoded: Tensor = self.out(mean) * present.any(dim=1, keepdim=True)  # (B, D)
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
        """x (B, N, D), mask (B, 1, N, N) True where attention may look → (B, N, D), or (B, 1, D) if `last_only`."""
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


class SelfAttentionEncoder(nn.Module):
    """A causal transformer over the events, read at the newest one (SASRec, Kang and McAuley 2018).

    Only the last position is wanted, so the last block computes it alone; `full=True` computes every position, as
    the test does that proves both equal.
    """

    def __init__(self, dimension: int, length_max: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(length_max, dimension) * 0.02)
        self.blocks = nn.ModuleList(_Block(dimension, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, events: Tensor, present: Tensor, full: bool = False) -> Tensor:
        """(B, N, D), (B, N) bool → (B, D)."""
        length = events.shape[1]
        x = self.dropout(events + self.position[-length:]) * present[:, :, None]
        causal = torch.ones(length, length, dtype=torch.bool, device=events.device).tril()
        # Each position sees itself too, so that a padded row never softmaxes over nothing.
        itself = torch.eye(length, dtype=torch.bool, device=events.device)
        mask = ((causal & present[:, None, :]) | itself)[:, None]  # (B, 1, N, N)
        for place, block in enumerate(self.blocks):
            x = block(x, mask, last_only=not full and place == len(self.blocks) - 1)
        encoded: Tensor = self.norm(x[:, -1]) * present[:, -1:]  # (B, D)
        return encoded
