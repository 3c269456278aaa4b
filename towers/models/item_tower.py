"""The item tower: id, attributes, numbers and words of an item → one unit vector.

Ids are dropped at random in training, so that an item never bought is placed by its attributes alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from towers.features.items import ItemArrays
from towers.features.vocabularies import WORD_BUCKETS


@dataclass(frozen=True, slots=True)
class ItemShape:
    """Sizes that training fixed: (ids, codes of each attribute, numbers, whether there are words)."""

    id_count: int
    attribute_counts: tuple[int, ...]
    number_count: int
    has_words: bool


@dataclass(frozen=True, slots=True)
class ItemTensors:
    """n items as tensors; fields and shapes as `ItemArrays`."""

    id_code: Tensor
    attribute_code: Tensor
    number: Tensor
    word: Tensor

    @classmethod
    def of(cls, items: ItemArrays, device: torch.device) -> ItemTensors:
        """The arrays on the device."""
        return cls(
            torch.as_tensor(items.id_code, dtype=torch.int64, device=device),
            torch.as_tensor(items.attribute_code, dtype=torch.int64, device=device),
            torch.as_tensor(items.number, dtype=torch.float32, device=device),
            torch.as_tensor(items.word, dtype=torch.int64, device=device),
        )

    def take(self, rows: Tensor) -> ItemTensors:
        """The items of the given rows (m,)."""
        return ItemTensors(self.id_code[rows], self.attribute_code[rows], self.number[rows], self.word[rows])


class ItemTower(nn.Module):
    """Sum of embeddings, one residual MLP, unit length."""

    def __init__(self, shape: ItemShape, dimension: int, id_dropout: float) -> None:
        super().__init__()
        self.id_dropout = id_dropout
        self.id_embedding = nn.Embedding(shape.id_count, dimension, padding_idx=0)
        self.attribute_embeddings = nn.ModuleList(
            nn.Embedding(count, dimension, padding_idx=0) for count in shape.attribute_counts
        )
        self.numbers = nn.Linear(shape.number_count, dimension) if shape.number_count else None
        self.words = nn.EmbeddingBag(WORD_BUCKETS, dimension, mode="mean", padding_idx=0) if shape.has_words else None
        self.norm = nn.LayerNorm(dimension)
        self.mlp = nn.Sequential(nn.Linear(dimension, 2 * dimension), nn.GELU(), nn.Linear(2 * dimension, dimension))
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                nn.init.normal_(module.weight, std=0.1)
                with torch.no_grad():
                    module.weight[0] = 0  # what training never saw says nothing

    def forward(self, items: ItemTensors) -> Tensor:
        """Embeds n items.

        Returns:
            (n, D) float32 of unit length.
        """
        id_code = items.id_code
        if self.training and self.id_dropout:
            id_code = id_code * (torch.rand(id_code.shape, device=id_code.device) >= self.id_dropout)
        total = self.id_embedding(id_code)  # (n, D)
        for column, embedding in enumerate(self.attribute_embeddings):
            total = total + embedding(items.attribute_code[:, column])
        if self.numbers is not None:
            total = total + self.numbers(items.number)
        if self.words is not None:
            total = total + self.words(items.word)
        total = self.norm(total)
        return nn.functional.normalize(total + self.mlp(total), dim=1)  # (n, D)
