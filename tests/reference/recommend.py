"""Reference · recommend: the whole path, histories in and lists out; eager float32 torch, the ranker unsplit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.reference.candidates import NearestItems, find_candidates
from tests.reference.pairs import pair_inputs
from tests.reference.purchases import Bought
from tests.reference.requests import request_tensors
from towers.candidates import Candidates, Exclusions, ItemTable
from towers.features.histories import FloatArray, HistoryBatch, Int32Array
from towers.models.ranker import Ranker
from towers.models.user_tower import RequestTensors, UserTower
from towers.settings import CandidateSettings, HeadWeights

_UNITS: dict[str, Callable[[Tensor], Tensor]] = {
    "buys": torch.sigmoid,
    "buys_again": torch.sigmoid,
    "value": torch.expm1,
    "rating": lambda stars: stars,
}
"""What a head's output means: a probability, money, stars."""


@dataclass(frozen=True)
class Embedded:
    """B requests after the user tower: what they bought, the tower's inputs, and vectors (B, D)."""

    histories: HistoryBatch
    bought: Bought
    tensors: RequestTensors
    vectors: FloatArray


@dataclass(frozen=True)
class Lists:
    """B lists of k, best first: rows (B, k) and scores (B, k), -1 at the pads; sources (B, k), bit sets."""

    rows: Int32Array
    scores: FloatArray
    sources: NDArray[np.uint8]


class Reference:
    """The trained modules over one item table and index."""

    def __init__(
        self, tower: UserTower, ranker: Ranker, items: ItemTable, index: NearestItems, sequence_events_max: int
    ) -> None:
        self._tower, self._ranker = tower.eval(), ranker.eval()
        self._items, self._index = items, index
        self._sequence_events_max = sequence_events_max
        self._item_inputs = np.concatenate([items.vectors, items.statistics], axis=1)  # (n, D + S)

    def embed(
        self,
        histories: HistoryBatch,
        bucket: Int32Array,
        attribute: NDArray[np.int32],
        context: NDArray[np.int32],
    ) -> Embedded:
        """The user tower; bucket (B,), attribute (B, A) and context (B, C) are codes."""
        bought = Bought.of(histories, len(self._items.vectors))
        tensors = request_tensors(histories, self._sequence_events_max, bucket, attribute, context)
        events = torch.from_numpy(self._items.vectors[np.maximum(tensors.item_row.numpy(), 0)])  # (B, N, D)
        with torch.inference_mode():
            vectors: FloatArray = self._tower(tensors, events).numpy()
        return Embedded(histories, bought, tensors, vectors)

    def retrieve(
        self,
        embedded: Embedded,
        settings: CandidateSettings,
        exclusions: Exclusions,
        seeds: Int32Array | None = None,
    ) -> Candidates:
        """All sources, merged."""
        return find_candidates(embedded.vectors, embedded.bought, self._items, self._index, settings, exclusions, seeds)

    def pair_inputs(self, embedded: Embedded, candidates: Candidates) -> FloatArray:
        """(B, K, P)."""
        return pair_inputs(embedded.histories, embedded.bought, candidates, embedded.vectors, self._items)

    def ranker_inputs(self, embedded: Embedded, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """Every candidate's whole input, laid out: request (B · K, R), item (B · K, I), pair (B · K, P)."""
        batch, width = candidates.rows.shape
        pairs = self.pair_inputs(embedded, candidates)
        request = np.concatenate([embedded.vectors, embedded.tensors.feature.numpy()], axis=1)  # (B, R)
        item = self._item_inputs[np.maximum(candidates.rows, 0)]  # (B, K, I)
        return (
            torch.from_numpy(request)[:, None, :].expand(-1, width, -1).reshape(batch * width, request.shape[1]),
            torch.from_numpy(item.reshape(batch * width, item.shape[2])),
            torch.from_numpy(pairs.reshape(batch * width, pairs.shape[2])),
        )

    def score(
        self, embedded: Embedded, candidates: Candidates, weights: HeadWeights = HeadWeights(buys=1)
    ) -> FloatArray:
        """(B, K) the product of the heads raised to their weights, of buys alone its probability; -1 at the pads."""
        with torch.inference_mode():
            outputs = self._ranker.heads(*self.ranker_inputs(embedded, candidates))  # (B · K, H)
            product = torch.ones(len(outputs))
            for place, name in enumerate(self._ranker.shape.heads):
                if power := getattr(weights, name):
                    product *= _UNITS[name](outputs[:, place]).clamp(min=1e-9) ** power
        return np.where(candidates.rows >= 0, product.reshape(candidates.rows.shape).numpy(), np.float32(-1))

    def recommend(
        self,
        embedded: Embedded,
        settings: CandidateSettings,
        exclusions: Exclusions,
        page_size: int,
        seeds: Int32Array | None = None,
    ) -> Lists:
        """Candidates, scores, and the best page_size of each request."""
        candidates = self.retrieve(embedded, settings, exclusions, seeds)
        return best(candidates, self.score(embedded, candidates), page_size)


def best(candidates: Candidates, scores: FloatArray, k: int) -> Lists:
    """The k best of each request; equal scores by row."""
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Lists(
        np.take_along_axis(candidates.rows, columns, axis=1),
        np.take_along_axis(scores, columns, axis=1),
        np.take_along_axis(candidates.sources, columns, axis=1),
    )
