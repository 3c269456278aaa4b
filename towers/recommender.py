"""The recommender: histories in, ranked items out. Training, offline evaluation and the server all run this.

    histories → user tower → candidates → ranker inputs → scores

It holds one model and one item table, knows neither network nor disk, and its answers for a batch are those of its
single requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from towers.candidates import Candidates, Exclusions, ItemTable, Retriever, find_candidates
from towers.features.histories import FloatArray, HistoryBatch, Int32Array
from towers.features.purchases import Purchases
from towers.features.requests import RequestArrays, request_arrays
from towers.models.ranker import Ranker
from towers.models.user_tower import RequestTensors, UserTower
from towers.ranking import item_inputs, pair_inputs, request_inputs
from towers.settings import CandidateSettings

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Shoppers:
    """B requests before any model has seen them.

    Attributes:
        histories: what they did.
        bucket: (B,) user-id buckets, 0 unknown. attribute: (B, A) codes. context: (B, C) codes.
        purchases: the aggregates of their target events.
    """

    histories: HistoryBatch
    bucket: Int32Array
    attribute: NDArray[np.int32]
    context: NDArray[np.int32]
    purchases: Purchases

    @classmethod
    def of(
        cls,
        histories: HistoryBatch,
        bucket: Int32Array,
        attribute: NDArray[np.int32],
        context: NDArray[np.int32],
        item_count: int,
    ) -> Shoppers:
        """Aggregates the histories."""
        return cls(histories, bucket, attribute, context, Purchases.of(histories, item_count))

    def __len__(self) -> int:
        return len(self.histories)


@dataclass(frozen=True, slots=True)
class Embedded:
    """B requests after the user tower: vectors (B, D) and the arrays they came from."""

    shoppers: Shoppers
    arrays: RequestArrays
    vectors: FloatArray


class UserEmbedder:
    """The user tower over a table of item vectors."""

    def __init__(self, tower: UserTower, item_vectors: FloatArray, sequence_events_max: int) -> None:
        self._tower = tower.eval()
        self._item_vectors = item_vectors
        self._sequence_events_max = sequence_events_max

    def embed(self, shoppers: Shoppers) -> Embedded:
        """(B, D) unit vectors, on the CPU."""
        arrays = request_arrays(
            shoppers.histories, self._sequence_events_max, shoppers.bucket, shoppers.attribute, shoppers.context
        )
        events = self._item_vectors[np.maximum(arrays.item_row, 0)]  # (B, N, D)
        with torch.inference_mode():
            vectors: FloatArray = self._tower(RequestTensors.of(arrays, _CPU), torch.from_numpy(events)).numpy()
        return Embedded(shoppers, arrays, vectors)


class Recommender:
    """A user embedder, an item table, a retriever and a ranker."""

    def __init__(
        self,
        embedder: UserEmbedder,
        ranker: Ranker,
        items: ItemTable,
        item_part: FloatArray,
        retriever: Retriever,
    ) -> None:
        self._embedder = embedder
        self._ranker = ranker.eval()
        self._items = items
        self._item_part = item_part
        self._retriever = retriever

    @property
    def items(self) -> ItemTable:
        """The catalogue it recommends from."""
        return self._items

    def embed(self, shoppers: Shoppers) -> Embedded:
        """The user tower, once for the batch."""
        return self._embedder.embed(shoppers)

    def retrieve(
        self,
        embedded: Embedded,
        settings: CandidateSettings,
        exclusions: Exclusions,
        seeds: Int32Array | None = None,
    ) -> Candidates:
        """The sources' candidates; see `find_candidates`."""
        purchases = embedded.shoppers.purchases
        return find_candidates(embedded.vectors, purchases, self._items, self._retriever, settings, exclusions, seeds)

    def pair_inputs(self, embedded: Embedded, candidates: Candidates) -> FloatArray:
        """(B, K, P) what the ranker reads of each pair."""
        shoppers = embedded.shoppers
        return pair_inputs(shoppers.histories, shoppers.purchases, candidates, embedded.vectors, self._items)

    def score(self, embedded: Embedded, candidates: Candidates, pairs: FloatArray) -> FloatArray:
        """(B, K) calibrated probabilities; padded places get -1."""
        request = torch.from_numpy(request_inputs(embedded.vectors, embedded.arrays.feature))
        item_part = torch.from_numpy(self._item_part[np.maximum(candidates.rows, 0)])  # (B, K, H)
        with torch.inference_mode():
            logits = self._ranker.logits(self._ranker.request_part(request), item_part.float(), torch.from_numpy(pairs))
            scores = torch.sigmoid(logits).numpy()
        return np.where(candidates.rows >= 0, scores, np.float32(-1))


def ranker_item_part(ranker: Ranker, items: ItemTable) -> FloatArray:
    """(n, H) the per-item share of the ranker's first layer, for the generation."""
    with torch.inference_mode():
        part: FloatArray = ranker.eval().item_part(torch.from_numpy(item_inputs(items))).numpy()
        return part


def top(candidates: Candidates, scores: FloatArray, k: int) -> tuple[Int32Array, FloatArray, NDArray[np.int64]]:
    """The k best of each request.

    Returns:
        Rows (B, k) best first with -1 pads, their scores (B, k), and their columns in `candidates` (B, k); k is at most
        the width of `candidates`. Equal scores keep the order of rows, so that a request always gets the same list.
    """
    k = min(k, scores.shape[1])
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rows = np.take_along_axis(candidates.rows, columns, axis=1)
    return rows, np.take_along_axis(scores, columns, axis=1), columns
