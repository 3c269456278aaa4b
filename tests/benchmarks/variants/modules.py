"""The two modules as graphs: plain tensors in, one tensor out, as compilers and exporters want them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from towers.models.ranker import Ranker
from towers.models.user_tower import RequestTensors, UserTower


class TowerGraph(nn.Module):
    """The user tower; inputs in the order of `RequestTensors`, then the event vectors (B, N, D)."""

    def __init__(self, tower: UserTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(
        self,
        item_row: Tensor,
        event_type: Tensor,
        gap_bucket: Tensor,
        hour: Tensor,
        weekday: Tensor,
        feature: Tensor,
        user_bucket: Tensor,
        user_attribute: Tensor,
        context: Tensor,
        events: Tensor,
    ) -> Tensor:
        """(B, D) unit vectors."""
        requests = RequestTensors(
            item_row, event_type, gap_bucket, hour, weekday, feature, user_bucket, user_attribute, context
        )
        vectors: Tensor = self.tower(requests, events)
        return vectors


class SplitRankerGraph(nn.Module):
    """The ranker on request (B, R), stored item part (B, K, H) and pairs (B, K, P); gives probabilities (B, K)."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, request: Tensor, item_part: Tensor, pair: Tensor) -> Tensor:
        """(B, K)."""
        return torch.sigmoid(self.ranker.logits(self.ranker.request_part(request), item_part, pair))


class UnsplitRankerGraph(nn.Module):
    """The ranker as it was trained: request (B, R), items' whole inputs (B, K, I), pairs (B, K, P) → (B, K)."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, request: Tensor, item: Tensor, pair: Tensor) -> Tensor:
        """(B, K)."""
        batch, width, _ = pair.shape
        wide = request[:, None, :].expand(-1, width, -1).reshape(batch * width, -1)
        logits: Tensor = self.ranker(wide, item.reshape(batch * width, -1), pair.reshape(batch * width, -1))
        return torch.sigmoid(logits).reshape(batch, width)
