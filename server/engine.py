"""The engine: a batch of queries and one generation in, answers out. It knows neither network nor event loop.

    ids → rows → histories → user tower → candidates → ranker → top k → ids

Queries of one placement run as one batch; its answers are those of its single queries.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from server.config import ContextItems, PlacementConfig
from server.domain import (
    Answer,
    BatchTimings,
    ItemExplanation,
    Query,
    RecommendAnswer,
    RecommendQuery,
    RepeatPolicy,
    ScoreAnswer,
    ScoreQuery,
    SimilarItemsAnswer,
    SimilarItemsQuery,
    Source,
    UnknownItem,
)
from server.shoppers import Readied, ShopperReader
from towers.candidates import Candidates, Exclusions
from towers.recommender import Embedded, top
from towers.settings import CandidateSettings

if TYPE_CHECKING:
    from server.model import ServingModel


class Stopwatch:
    """Adds up the microseconds of each stage over the groups of one batch."""

    def __init__(self) -> None:
        self.spent_us = {"state": 0.0, "user_tower": 0.0, "retrieve": 0.0, "rank": 0.0}
        self._last_ns = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        """Books the time since the last lap."""
        now_ns = time.perf_counter_ns()
        self.spent_us[stage] += (now_ns - self._last_ns) / 1_000
        self._last_ns = now_ns

    def timings(self, batch_size: int) -> BatchTimings:
        """What was booked."""
        return BatchTimings(
            state_us=int(self.spent_us["state"]),
            user_tower_us=int(self.spent_us["user_tower"]),
            retrieve_us=int(self.spent_us["retrieve"]),
            rank_us=int(self.spent_us["rank"]),
            batch_size=batch_size,
        )


class Engine:
    """Answers queries from one generation. Pure: no state changes, so any number of engines may share a model."""

    def __init__(self, serving: ServingModel, placements: Mapping[str, PlacementConfig]) -> None:
        self._serving = serving
        self._roles = {name: placement.context_items for name, placement in placements.items()}
        self._candidates = {name: self._candidate_settings(placement) for name, placement in placements.items()}
        self._reader = ShopperReader(serving)

    @property
    def generation_id(self) -> str:
        """The generation that answers."""
        return self._serving.generation_id

    @property
    def event_types(self) -> tuple[str, ...]:
        """Event types that requests may carry."""
        return self._serving.model.encoders.event_types

    @property
    def context_columns(self) -> tuple[str, ...]:
        """Context columns that requests may carry."""
        return tuple(self._serving.contexts)

    def answer(self, queries: Sequence[Query]) -> tuple[list[Answer], BatchTimings]:
        """Answers every query, in their order."""
        watch = Stopwatch()
        answers: list[Answer | None] = [None] * len(queries)
        for (_, placement), places in _groups(queries).items():
            group = [queries[place] for place in places]
            for place, answer in zip(places, self._solve(group, placement, watch), strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None], watch.timings(len(queries))

    def _solve(self, group: Sequence[Query], placement: str, watch: Stopwatch) -> Sequence[Answer]:
        """One group, whose queries are all of one kind."""
        if recommend := [query for query in group if isinstance(query, RecommendQuery)]:
            return self._recommend(recommend, placement, watch)
        if score := [query for query in group if isinstance(query, ScoreQuery)]:
            return self._score(score, placement, watch)
        return self._similar_items([query for query in group if isinstance(query, SimilarItemsQuery)], watch)

    def _candidate_settings(self, placement: PlacementConfig) -> CandidateSettings:
        """The generation's settings with the placement's own; a product page shows what is like its item."""
        chosen = self._serving.model.settings.candidates.model_dump()
        if placement.context_items is ContextItems.SEED:
            depth = chosen["two_tower"] + chosen["similar"]
            chosen |= {"two_tower": 0, "buy_again": 0, "popular": 0, "similar": depth}
        return CandidateSettings(**{**chosen, **placement.candidates})

    def _ready(self, queries: Sequence[RecommendQuery | ScoreQuery], placement: str, watch: Stopwatch) -> Readied:
        readied = self._reader.read(queries, self._roles[placement])
        watch.lap("state")
        return readied

    def _embed(self, readied: Readied, watch: Stopwatch) -> Embedded:
        embedded = self._serving.recommender.embed(readied.shoppers)
        watch.lap("user_tower")
        return embedded

    def _settings(self, placement: str, readied: Readied) -> CandidateSettings:
        """Without a known seed a product page has nothing to be like, and is answered as the home page."""
        if readied.seeds is None and self._roles[placement] is ContextItems.SEED:
            return self._serving.model.settings.candidates
        return self._candidates[placement]

    def _recommend(self, queries: Sequence[RecommendQuery], placement: str, watch: Stopwatch) -> list[RecommendAnswer]:
        if self._roles[placement] is ContextItems.SEED:
            return self._with_and_without_seed(queries, placement, watch)
        return self._recommend_alike(queries, placement, watch)

    def _with_and_without_seed(
        self, queries: Sequence[RecommendQuery], placement: str, watch: Stopwatch
    ) -> list[RecommendAnswer]:
        known = self._reader.has_known_context(queries)
        answers: dict[int, RecommendAnswer] = {}
        for wanted in (True, False):
            places = [place for place, has_seed in enumerate(known) if has_seed is wanted]
            if places:
                found = self._recommend_alike([queries[place] for place in places], placement, watch)
                answers |= dict(zip(places, found, strict=True))
        return [answers[place] for place in range(len(queries))]

    def _recommend_alike(
        self, queries: Sequence[RecommendQuery], placement: str, watch: Stopwatch
    ) -> list[RecommendAnswer]:
        readied = self._ready(queries, placement, watch)
        embedded = self._embed(readied, watch)
        recommender = self._serving.recommender
        exclusions = self._exclusions(queries, readied)
        candidates = recommender.retrieve(embedded, self._settings(placement, readied), exclusions, readied.seeds)
        watch.lap("retrieve")
        scores = recommender.score(embedded, candidates, recommender.pair_inputs(embedded, candidates))
        answers = self._lists(queries, embedded, candidates, scores)
        watch.lap("rank")
        return answers

    def _exclusions(self, queries: Sequence[RecommendQuery], readied: Readied) -> Exclusions:
        """The request's own exclusions, its context items, and what was bought where the policy says so."""
        bought = readied.shoppers.purchases.groups
        hides_bought = np.array([query.repeat_policy is RepeatPolicy.EXCLUDE_BOUGHT for query in queries], np.bool_)
        hidden = hides_bought[bought.request]
        return Exclusions.of(
            np.concatenate([readied.excluded_request, bought.request[hidden]]),
            np.concatenate([readied.excluded_row, bought.item_row[hidden]]),
            len(queries),
            len(self._serving.item_ids),
        )

    def _lists(
        self,
        queries: Sequence[RecommendQuery],
        embedded: Embedded,
        candidates: Candidates,
        scores: NDArray[np.float32],
    ) -> list[RecommendAnswer]:
        rows, best, columns = top(candidates, scores, max(query.page_size for query in queries))
        sources = np.take_along_axis(candidates.sources, columns, axis=1)
        counts = np.minimum((rows >= 0).sum(axis=1), [query.page_size for query in queries])
        taken = np.arange(rows.shape[1]) < counts[:, None]
        ids = self._serving.item_ids.ids(rows[taken])
        ends = np.cumsum(counts)
        answers = []
        for place, query in enumerate(queries):
            count, end = int(counts[place]), int(ends[place])
            answers.append(
                RecommendAnswer(
                    item_ids=ids[end - count : end],
                    scores=best[place, :count].tolist(),
                    sources=[Source(bits) for bits in sources[place, :count].tolist()],
                    generation_id=self.generation_id,
                    shortfall=count < query.page_size,
                    explanations=self._explain(embedded, place, rows[place, :count], sources[place, :count])
                    if query.explain
                    else [],
                )
            )
        return answers

    def _explain(
        self, embedded: Embedded, place: int, rows: NDArray[np.int32], sources: NDArray[np.uint8]
    ) -> list[ItemExplanation]:
        purchases = embedded.shoppers.purchases
        asked = np.full((len(embedded.vectors), len(rows)), 0, np.int32)
        asked[place] = rows
        group, found = (part[place] for part in purchases.groups.find(asked))
        similarity = self._serving.snapshot.items.vectors[rows] @ embedded.vectors[place]
        return [
            ItemExplanation(
                sources=Source(int(bits)),
                similarity=float(cosine),
                times_bought=float(purchases.times[index]) if bought else 0.0,
                days_since_bought=float(purchases.days_since[index]) if bought else -1.0,
            )
            for bits, cosine, index, bought in zip(sources, similarity, group, found, strict=True)
        ]

    def _score(self, queries: Sequence[ScoreQuery], placement: str, watch: Stopwatch) -> list[ScoreAnswer]:
        """The scores that Recommend would give; an item that no source brings is ranked all the same."""
        readied = self._ready(queries, placement, watch)
        embedded = self._embed(readied, watch)
        recommender, item_count = self._serving.recommender, len(self._serving.item_ids)
        nothing = Exclusions.of(np.zeros(0, np.int64), np.zeros(0, np.int64), len(queries), item_count)
        brought = recommender.retrieve(embedded, self._settings(placement, readied), nothing, readied.seeds)
        watch.lap("retrieve")
        width = max(len(query.item_ids) for query in queries)
        rows = np.full((len(queries), width), -1, np.int32)
        for place, query in enumerate(queries):
            rows[place, : len(query.item_ids)] = self._serving.item_ids.rows(query.item_ids)
        candidates = Candidates(rows, _sources_of(rows, brought))
        scores = recommender.score(embedded, candidates, recommender.pair_inputs(embedded, candidates))
        watch.lap("rank")
        return [
            ScoreAnswer(
                scores=np.maximum(scores[place, : len(query.item_ids)], 0).tolist(),
                known=(rows[place, : len(query.item_ids)] >= 0).tolist(),
                generation_id=self.generation_id,
            )
            for place, query in enumerate(queries)
        ]

    def _similar_items(
        self, queries: Sequence[SimilarItemsQuery], watch: Stopwatch
    ) -> list[SimilarItemsAnswer | UnknownItem]:
        serving = self._serving
        rows = serving.item_ids.rows([query.item_id for query in queries])
        known = np.flatnonzero(rows >= 0)
        left_out = [set(serving.item_ids.rows(query.exclude_item_ids).tolist()) for query in queries]
        answers: list[SimilarItemsAnswer | UnknownItem] = [
            UnknownItem(query.item_id, self.generation_id) for query in queries
        ]
        watch.lap("state")
        if len(known):
            depth = max(queries[place].page_size + len(left_out[place]) for place in known.tolist()) + 1
            scores, found = serving.searcher.search(serving.snapshot.items.vectors[rows[known]], depth)
            for line, place in enumerate(known.tolist()):
                hidden = [*left_out[place], int(rows[place]), -1]
                kept = np.flatnonzero(~np.isin(found[line], hidden))[: queries[place].page_size]
                answers[place] = SimilarItemsAnswer(
                    serving.item_ids.ids(found[line][kept]), scores[line][kept].tolist(), self.generation_id
                )
        watch.lap("retrieve")
        return answers


def _groups(queries: Sequence[Query]) -> dict[tuple[type, str], list[int]]:
    groups: dict[tuple[type, str], list[int]] = {}
    for place, query in enumerate(queries):
        placement = "" if isinstance(query, SimilarItemsQuery) else query.placement
        groups.setdefault((type(query), placement), []).append(place)
    return groups


def _sources_of(rows: NDArray[np.int32], brought: Candidates) -> NDArray[np.uint8]:
    """(B, K) the bits of the sources that brought each row; 0 for a row that none did."""
    same = (rows[:, :, None] == brought.rows[:, None, :]) & (rows[:, :, None] >= 0)  # (B, K, L)
    found: NDArray[np.uint8] = np.where(same, brought.sources[:, None, :], np.uint8(0)).max(axis=2, initial=0)
    return found
