"""The plain pipeline: the same generation and answers as the engine's, in eager float32 and with the ranker unsplit.

Each candidate's whole input (request, item, pair) is laid out and goes through the MLP as it was trained. Features come
from the same numpy code as the engine's; a batch is one call of each stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from twinrank.v1 import recommendation_pb2 as pb

from index.generation import open_generation
from index.generation.pointer import current_id
from server.model import open_serving_model
from server.serving_model import ServingModel
from server.threads import compute_on_one_thread
from towers.candidates import Exclusions, find_candidates
from towers.ranking import item_inputs, pair_inputs, request_inputs
from towers.recommender import Shoppers, UserEmbedder, top

_WIRE_SOURCE = {1: 1, 2: 2, 4: 3, 8: 4}


@dataclass(frozen=True)
class PlainList:
    """One answer, best first; `sources` are bit sets."""

    item_ids: list[str]
    scores: list[float]
    sources: list[int]


class PlainPipeline:
    """Answers known users' requests for the home page."""

    def __init__(self, serving: ServingModel) -> None:
        self._serving = serving
        self._features = serving.model.settings.features
        items = serving.snapshot.items
        self._embedder = UserEmbedder(serving.model.user_tower, items.vectors, self._features.sequence_events_max)
        self._item_inputs = item_inputs(items)  # (n, D + S)

    @classmethod
    def open(cls, root: Path) -> PlainPipeline:
        """The pipeline over the current generation of a root."""
        compute_on_one_thread()
        generation_id = current_id(root)
        assert generation_id is not None, f"no generation at {root}"
        return cls(open_serving_model(open_generation(root, generation_id)))

    @property
    def generation_id(self) -> str:
        """The generation that answers."""
        return self._serving.generation_id

    def answer(self, user_ids: Sequence[str], as_of_s: Sequence[float], page_size: int) -> list[PlainList]:
        """One list for each user."""
        compute_on_one_thread()
        serving, snapshot = self._serving, self._serving.snapshot
        count, item_count = len(user_ids), len(serving.item_ids)
        user_row = serving.user_ids.rows(list(user_ids))
        known = np.maximum(user_row, 0)
        histories = snapshot.histories.batch(
            user_row, np.array(as_of_s).astype(np.int64), self._features.history_events_max
        )
        shoppers = Shoppers.of(
            histories,
            np.where(user_row >= 0, snapshot.users.bucket[known], 0).astype(np.int32),
            np.where(user_row[:, None] >= 0, snapshot.users.attribute[known], 0).astype(np.int32),
            np.zeros((count, len(serving.contexts)), np.int32),
            item_count,
        )
        embedded = self._embedder.embed(shoppers)
        candidates = find_candidates(
            embedded.vectors,
            shoppers.purchases,
            snapshot.items,
            serving.searcher,
            serving.model.settings.candidates,
            Exclusions.of(np.zeros(0, np.int64), np.zeros(0, np.int32), count, item_count),
        )
        pairs = pair_inputs(histories, shoppers.purchases, candidates, embedded.vectors, snapshot.items)
        width = candidates.rows.shape[1]
        request = torch.from_numpy(request_inputs(embedded.vectors, embedded.arrays.feature))  # (B, R)
        item = torch.from_numpy(self._item_inputs[np.maximum(candidates.rows, 0)].reshape(count * width, -1))
        with torch.inference_mode():
            logits = serving.model.ranker(
                request[:, None, :].expand(-1, width, -1).reshape(count * width, -1),
                item,
                torch.from_numpy(pairs.reshape(count * width, -1)),
            )
            scores = torch.sigmoid(logits).reshape(count, width).numpy()
        scores = np.where(candidates.rows >= 0, scores, np.float32(-1))
        rows, best, columns = top(candidates, scores, page_size)
        sources = np.take_along_axis(candidates.sources, columns, axis=1)
        answers = []
        for place in range(count):
            found = rows[place] >= 0
            answers.append(
                PlainList(
                    item_ids=serving.item_ids.ids(rows[place][found]),
                    scores=best[place][found].tolist(),
                    sources=sources[place][found].tolist(),
                )
            )
        return answers


def to_message(request_id: str, answer: PlainList, generation_id: str) -> pb.RecommendResponse:
    """The answer as the contract's message; the strongest source stands for the set."""
    return pb.RecommendResponse(
        request_id=request_id,
        item_ids=answer.item_ids,
        scores=answer.scores,
        sources=[_WIRE_SOURCE[2 if bits & 2 else bits & -bits] for bits in answer.sources],  # type: ignore[misc]
        generation_id=generation_id,
    )
