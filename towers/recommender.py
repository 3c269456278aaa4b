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

from towers.candidates import Candidates, Exclusions, ItemTable, SourceBits, find_candidates
from towers.compiled import kernel
from towers.features.histories import FloatArray, HistoryBatch, Int32Array
from towers.features.purchases import Purchases
from towers.features.requests import RequestArrays, request_arrays
from towers.further_candidates import with_further
from towers.models.ranker import Ranker
from towers.models.served_ranker import BUYS_ALONE, ServedRanker
from towers.models.served_user_tower import served_user_tower
from towers.models.user_tower import UserTower
from towers.ranking import item_inputs, pair_inputs, request_inputs
from towers.retrieval import Allowed, Retriever
from towers.settings import CandidateSettings, HeadWeights
from towers.sources.base import SourceRequest


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
    ) -> Shoppers:
        """Aggregates the histories."""
        return cls(histories, bucket, attribute, context, Purchases.of(histories))

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
        self._tower = served_user_tower(tower)
        self._item_vectors = item_vectors
        self._sequence_events_max = sequence_events_max
        self._gaps_to = tower.gaps_to

    def embed(self, shoppers: Shoppers) -> Embedded:
        """(B, D) unit vectors, on the CPU."""
        who = (shoppers.bucket, shoppers.attribute, shoppers.context)
        arrays = request_arrays(shoppers.histories, self._sequence_events_max, *who, self._gaps_to)
        return Embedded(shoppers, arrays, self._tower.embed(arrays, self._item_vectors))


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
        self._ranker = ServedRanker(ranker)
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
        allowed: Allowed | None = None,
    ) -> Candidates:
        """The sources' candidates; see `find_candidates` and `with_further`."""
        shoppers = embedded.shoppers
        found = find_candidates(
            embedded.vectors, shoppers.purchases, self._items, self._retriever, settings, exclusions, seeds, allowed
        )
        request = SourceRequest(shoppers.histories, shoppers.attribute)
        return with_further(found, embedded.vectors, request, self._items, settings, exclusions, allowed)

    def pair_inputs(self, embedded: Embedded, candidates: Candidates) -> FloatArray:
        """(B, K, P) what the ranker reads of each pair."""
        shoppers = embedded.shoppers
        return pair_inputs(shoppers.histories, shoppers.purchases, candidates, embedded.vectors, self._items)

    @property
    def heads(self) -> tuple[str, ...]:
        """The ranker's heads, which `score` can weigh."""
        return self._ranker.heads

    def score(
        self, embedded: Embedded, candidates: Candidates, pairs: FloatArray, weights: HeadWeights = BUYS_ALONE
    ) -> FloatArray:
        """(B, K) calibrated probabilities, or the weighted product of several heads; padded places get -1."""
        request = request_inputs(embedded.vectors, embedded.arrays.feature)
        return self._ranker.scores(request, self._item_part, candidates.rows, pairs, weights)


def ranker_item_part(ranker: Ranker, items: ItemTable) -> FloatArray:
    """(n, H) the per-item share of the ranker's first layer, for the generation."""
    with torch.inference_mode():
        part: FloatArray = ranker.eval().item_part(torch.from_numpy(item_inputs(items))).numpy()
        return part


def top(candidates: Candidates, scores: FloatArray, k: int) -> tuple[Int32Array, FloatArray, SourceBits]:
    """The k best of each request.

    Returns:
        Rows (B, k) best first with -1 pads, their scores (B, k), and their sources (B, k); k is at most the width of
        `candidates`. Equal scores keep the order of rows, so that a request always gets the same list.
    """
    return _top(candidates.rows, scores, candidates.sources, min(k, scores.shape[1]))


@kernel
def _top(
    rows: Int32Array, scores: FloatArray, sources: SourceBits, k: int
) -> tuple[Int32Array, FloatArray, SourceBits]:
    """(B, k) of the highest scores, highest first, of equal ones the first column first."""
    request_count = len(rows)
    top_rows, top_scores = np.empty((request_count, k), np.int32), np.empty((request_count, k), np.float32)
    top_sources, best = np.empty((request_count, k), sources.dtype), np.empty(k, np.int64)
    for request in range(request_count):
        line = scores[request]
        filled = 0
        for column in range(scores.shape[1]):
            if filled == k and (k == 0 or line[column] <= line[best[k - 1]]):
                continue
            place = min(filled, k - 1)
            while place > 0 and line[best[place - 1]] < line[column]:
                best[place] = best[place - 1]
                place -= 1
            best[place] = column
            filled = min(filled + 1, k)
        for place in range(k):
            top_rows[request, place] = rows[request, best[place]]
            top_scores[request, place] = line[best[place]]
            top_sources[request, place] = sources[request, best[place]]
    return top_rows, top_scores, top_sources
