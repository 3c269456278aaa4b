"""The user tower: the newest events, the user and the request's context → one unit vector in the items' space.

Event vectors are the item tower's own outputs, so that serving gathers them from the generation's table and a new
item is understood in a history at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from towers.features.requests import CLOCK_FEATURES, GAP_BUCKETS, REQUEST_FEATURES, RequestArrays
from towers.models.encoders import sequence_encoder
from towers.models.rows import rows_of
from towers.settings import FeatureSettings, TowerSettings

SHORT_EVENTS = 8
"""Sequences up to this long are read together; then up to twice as long, and so on."""


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


@dataclass(frozen=True, slots=True)
class SequenceTensors:
    """W sequences of N events, padded in front.

    Attributes:
        item: (W, N) int64 into a table of item vectors, -1 where padded.
        event_type, gap_bucket: (W, N) int64.
    """

    item: Tensor
    event_type: Tensor
    gap_bucket: Tensor

    def newest(self, rows: Tensor, count: int) -> SequenceTensors:
        """The last `count` columns of the given rows (m,)."""
        return SequenceTensors(self.item[rows, -count:], self.event_type[rows, -count:], self.gap_bucket[rows, -count:])


class UserTower(nn.Module):
    """Sequence encoder plus user and context embeddings, one MLP, unit length."""

    reads_feature: Tensor
    """(F,) 1 for the request features that are read, 0 for others."""

    def __init__(self, shape: UserShape, towers: TowerSettings, features: FeatureSettings) -> None:
        super().__init__()
        dimension, length = towers.dimension, features.sequence_events_max
        self.id_dropout = towers.id_dropout
        self.event_in = nn.Linear(dimension, dimension)
        self.event_type = nn.Embedding(shape.event_type_count, dimension)
        self.gap = nn.Embedding(GAP_BUCKETS, dimension)
        self.gaps_to = towers.gaps_to
        self.encoder = sequence_encoder(towers, length)
        self.hour = nn.Embedding(24, dimension) if features.clock else None
        self.weekday = nn.Embedding(7, dimension) if features.clock else None
        self.features = nn.Linear(len(REQUEST_FEATURES), dimension)
        reads = [features.clock or name not in CLOCK_FEATURES for name in REQUEST_FEATURES]
        self.register_buffer("reads_feature", torch.tensor(reads, dtype=torch.float32), persistent=False)
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
        read = self._events(requests.item_row, requests.event_type, requests.gap_bucket, event_vectors)
        encoded: Tensor = self.encoder(*read)  # (B, D)
        return self._finish(encoded, requests)

    def at_positions(
        self, sequences: SequenceTensors, item_vectors: Tensor, sequence: Tensor, column: Tensor, asked: RequestTensors
    ) -> Tensor:
        """Embeds R requests that read W sequences at many positions, in one pass over each sequence.

        Args:
            sequences: W sequences, oldest event first, padded in front.
            item_vectors: (C, D) the table that `sequences.item` points into.
            sequence: (R,) the sequence of each request.
            column: (R,) the newest event that it sees there; -1 where it sees none.
            asked: the rest of the R requests; their own sequences are not read.

        Returns:
            (R, D) float32 of unit length.
        """
        everywhere, begins = self._every_position(sequences, item_vectors)
        place = begins[sequence] + column  # (R,)
        encoded = rows_of(everywhere, place.clamp_min(0)) * (column >= 0)[:, None]  # (R, D)
        return self._finish(encoded, asked)

    def _every_position(self, sequences: SequenceTensors, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(E, D) what the encoder says at each position; (W,) where column 0 of each sequence would stand among them.

        Sequences are read in groups of like length, so that short ones do not pay for the padding of long ones.
        """
        length = sequences.item.shape[1]
        counts = (sequences.item >= 0).sum(dim=1)  # (W,)
        begins = torch.empty_like(counts)
        parts, filled, above, width = [], 0, 0, min(SHORT_EVENTS, length)
        while above < length:
            rows = torch.nonzero((counts > above) & (counts <= width))[:, 0]
            group = sequences.newest(rows, width)
            vectors = rows_of(item_vectors, group.item.clamp_min(0))
            read = self._events(group.item, group.event_type, group.gap_bucket, vectors)
            parts.append(self.encoder.every_position(*read).flatten(0, 1))  # (rows · width, D)
            begins[rows] = filled + torch.arange(len(rows), device=rows.device) * width - (length - width)
            filled, above, width = filled + len(rows) * width, width, min(2 * width, length)
        return torch.cat(parts), begins

    def _events(
        self, item: Tensor, event_type: Tensor, gap_bucket: Tensor, event_vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the encoder reads: events (B, N, D) and where there are any (B, N)."""
        present = item >= 0
        events = self.event_in(event_vectors) + self.event_type(event_type) + self.gap(gap_bucket)
        return events * present[:, :, None], present

    def _finish(self, total: Tensor, requests: RequestTensors) -> Tensor:
        """Adds user and context to what the events say (B, D), the MLP and unit length."""
        if self.hour is not None and self.weekday is not None:
            total = total + self.hour(requests.hour) + self.weekday(requests.weekday)
        total = total + self.features(requests.feature * self.reads_feature)
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
