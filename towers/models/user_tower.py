"""The user tower: the newest events, the user and the request's context → one unit vector in the items' space.

Event vectors are the item tower's own outputs, so that serving gathers them from the generation's table and a new
item is understood in a history at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from towers.features.requests import GAP_BUCKETS, REQUEST_FEATURES, RequestArrays
from towers.models.encoders import MeanEncoder, SelfAttentionEncoder
from towers.settings import FeatureSettings, TowerSettings


@dataclass(frozen=True, slots=True)
class UserShape:
    """Sizes that training fixed: event types, codes of each user attribute and of each context column."""

    event_type_count: int
    attribute_counts: tuple[int, ...]
    context_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RequestTensors:
    """B requests as tensors; fields and shapes as `RequestArrays`."""

    item_row: Tensor
    event_type: Tensor
    gap_bucket: Tensor
    hour: Tensor
    weekday: Tensor
    feature: Tensor
    user_bucket: Tensor
    user_attribute: Tensor
    context: Tensor

    @classmethod
    def of(cls, requests: RequestArrays, device: torch.device) -> RequestTensors:
        """The arrays on the device."""

        def whole(array: object) -> Tensor:
            return torch.as_tensor(array, dtype=torch.int64, device=device)

        return cls(
            item_row=whole(requests.item_row),
            event_type=whole(requests.event_type),
            gap_bucket=whole(requests.gap_bucket),
            hour=whole(requests.hour),
            weekday=whole(requests.weekday),
            feature=torch.as_tensor(requests.feature, device=device),
            user_bucket=whole(requests.user_bucket),
            user_attribute=whole(requests.user_attribute),
            context=whole(requests.context),
        )


class UserTower(nn.Module):
    """Sequence encoder plus user and context embeddings, one MLP, unit length."""

    def __init__(self, shape: UserShape, towers: TowerSettings, features: FeatureSettings) -> None:
        super().__init__()
        dimension, length = towers.dimension, features.sequence_events_max
        self.id_dropout = towers.id_dropout
        self.event_in = nn.Linear(dimension, dimension)
        self.event_type = nn.Embedding(shape.event_type_count, dimension)
        self.gap = nn.Embedding(GAP_BUCKETS, dimension)
        self.encoder: nn.Module = (
            MeanEncoder(dimension, length)
            if towers.encoder == "mean"
            else SelfAttentionEncoder(dimension, length, towers.blocks, towers.heads, towers.dropout)
        )
        self.hour = nn.Embedding(24, dimension)
        self.weekday = nn.Embedding(7, dimension)
        self.features = nn.Linear(len(REQUEST_FEATURES), dimension)
        self.user = nn.Embedding(features.user_id_buckets + 1, dimension) if features.user_id_buckets else None
        self.attributes = nn.ModuleList(nn.Embedding(n, dimension, padding_idx=0) for n in shape.attribute_counts)
        self.contexts = nn.ModuleList(nn.Embedding(n, dimension, padding_idx=0) for n in shape.context_counts)
        self.norm = nn.LayerNorm(dimension)
        self.mlp = nn.Sequential(nn.Linear(dimension, 2 * dimension), nn.GELU(), nn.Linear(2 * dimension, dimension))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.05)
                if module.padding_idx is not None:
                    with torch.no_grad():
                        module.weight[module.padding_idx] = 0  # what training never saw says nothing

    def forward(self, requests: RequestTensors, event_vectors: Tensor) -> Tensor:
        """Embeds B requests.

        Args:
            requests: as `RequestTensors`.
            event_vectors: (B, N, D) item vectors of `requests.item_row`; what stands at padded places is ignored.

        Returns:
            (B, D) float32 of unit length.
        """
        present = requests.item_row >= 0  # (B, N)
        events = self.event_in(event_vectors) + self.event_type(requests.event_type) + self.gap(requests.gap_bucket)
        total = self.encoder(events * present[:, :, None], present)  # (B, D)
        total = total + self.hour(requests.hour) + self.weekday(requests.weekday) + self.features(requests.feature)
        if self.user is not None:
            bucket = requests.user_bucket
            if self.training and self.id_dropout:
                bucket = bucket * (torch.rand(bucket.shape, device=bucket.device) >= self.id_dropout)
            total = total + self.user(bucket)
        for column, embedding in enumerate(self.attributes):
            total = total + embedding(requests.user_attribute[:, column])
        for column, embedding in enumerate(self.contexts):
            total = total + embedding(requests.context[:, column])
        total = self.norm(total)
        return nn.functional.normalize(total + self.mlp(total), dim=1)  # (B, D)
