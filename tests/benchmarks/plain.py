"""The plain pipeline: the same generation and answers as the engine's, in numpy and eager float32, the ranker unsplit.

The computation is tests/reference, which shares none with the product: however the engine is made faster, this stays
what it is compared with. Each candidate's whole input (request, item, pair) is laid out and goes through the MLP as it
was trained; a batch is one call of each stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from twinrank.v1 import recommendation_pb2 as pb

from index.generation import open_generation
from index.generation.pointer import current_id
from server.model import open_serving_model
from server.serving_model import ServingModel
from server.threads import compute_on_one_thread
from tests.reference.histories import logged_histories
from tests.reference.recommend import Embedded, Reference, best
from towers.candidates import Candidates, Exclusions

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
        self._settings = serving.model.settings
        self.reference = Reference(
            serving.model.user_tower,
            serving.model.ranker,
            serving.snapshot.items,
            serving.searcher,
            self._settings.features.sequence_events_max,
        )

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

    def user_ids(self, count_max: int) -> list[str]:
        """The ids of the first users."""
        known = self._serving.user_ids
        return known.ids(list(range(min(count_max, len(known)))))

    def embed(self, user_ids: Sequence[str], as_of_s: Sequence[float]) -> Embedded:
        """What the users did, and the user tower's vectors of it."""
        snapshot = self._serving.snapshot
        user_row = self._serving.user_ids.rows(list(user_ids))
        known = np.maximum(user_row, 0)
        histories = logged_histories(
            snapshot.histories,
            user_row,
            np.array(as_of_s).astype(np.int64),
            self._settings.features.history_events_max,
        )
        return self.reference.embed(
            histories,
            np.where(user_row >= 0, snapshot.users.bucket[known], 0).astype(np.int32),
            np.where(user_row[:, None] >= 0, snapshot.users.attribute[known], 0).astype(np.int32),
            np.zeros((len(user_ids), len(self._serving.contexts)), np.int32),
        )

    def candidates(self, embedded: Embedded) -> Candidates:
        """What the home page may show; nothing is excluded."""
        nothing = Exclusions.of(np.zeros(0, np.int64), np.zeros(0, np.int32), len(embedded.vectors))
        return self.reference.retrieve(embedded, self._settings.candidates, nothing)

    def answer(self, user_ids: Sequence[str], as_of_s: Sequence[float], page_size: int) -> list[PlainList]:
        """One list for each user."""
        compute_on_one_thread()
        embedded = self.embed(user_ids, as_of_s)
        candidates = self.candidates(embedded)
        lists = best(candidates, self.reference.score(embedded, candidates), page_size)
        answers = []
        for rows, scores, sources in zip(lists.rows, lists.scores, lists.sources, strict=True):
            found = rows >= 0
            answers.append(
                PlainList(
                    item_ids=self._serving.item_ids.ids(rows[found]),
                    scores=scores[found].tolist(),
                    sources=sources[found].tolist(),
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
