"""The engine: a batch of queries and one generation in, answers out. It knows neither network nor event loop.

    ids → rows → histories → user tower → candidates → ranker → top k → ids

Queries of one kind and placement run as one batch; its answers are those of its single queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from index.filters.kinds import AttributeKind
from index.searcher import empty_answer
from server.catalogue.live_items import LiveItems
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
    StateGap,
    UnknownItem,
)
from server.filtering import ItemFilters
from server.lists import ListColumns
from server.placements import plan
from server.serving_model import ServingModel
from server.shoppers import Readied, RecentSettings, ShopperReader
from server.state.recent import ShopperStates
from server.stopwatch import Stopwatch
from server.threads import compute_on_one_thread
from towers.candidates import Candidates, Exclusions, SourceBits
from towers.recommender import Embedded, top
from towers.retrieval import Allowed


class Engine:
    """Answers queries from one generation. It keeps no state, so any number of engines may share a model."""

    def __init__(
        self,
        serving: ServingModel,
        placements: Mapping[str, PlacementConfig],
        recent: RecentSettings = RecentSettings(),
    ) -> None:
        self._serving = serving
        self._plans = plan(placements, serving.model.settings.candidates)
        self._reader = ShopperReader(serving, recent)
        self._filters = ItemFilters(serving)

    @property
    def generation_id(self) -> str:
        """The generation that answers."""
        return self._serving.generation_id

    @property
    def live(self) -> LiveItems:
        """What changes of the items while they are served."""
        return self._serving.live

    @property
    def event_types(self) -> tuple[str, ...]:
        """Event types that requests may carry."""
        return self._serving.model.encoders.event_types

    @property
    def context_columns(self) -> tuple[str, ...]:
        """Context columns that requests may carry."""
        return tuple(self._serving.contexts)

    @property
    def attributes(self) -> Mapping[str, AttributeKind] | None:
        """The items' attributes that filters may name; None where there are none to filter by."""
        return self._filters.kinds

    def answer(
        self, queries: Sequence[Query], states: ShopperStates | None = None
    ) -> tuple[list[Answer], BatchTimings]:
        """Answers every query, in their order. `states`: what the store knows of their shoppers, query by query."""
        compute_on_one_thread()
        watch = Stopwatch()
        with self._serving.live:  # items change between two batches, never within one
            answers: list[Answer | None] = [self._filters.refusal(query) for query in queries]
            for (_, placement, _), members in self._groups(queries).items():
                places = [place for place in members if answers[place] is None]
                if not places:
                    continue
                group = [queries[place] for place in places]
                known = None if states is None else states.take(places)
                for place, answer in zip(places, self._solve(group, known, placement, watch), strict=True):
                    answers[place] = answer
        return [answer for answer in answers if answer is not None], watch.timings(len(queries))

    def _groups(self, queries: Sequence[Query]) -> dict[tuple[type, str, bool], list[int]]:
        """The places of the queries that can be answered together: of one kind, one placement, one set of sources."""
        seeded = iter(self._reader.has_known_context([query for query in queries if self._wants_seed(query)]))
        groups: dict[tuple[type, str, bool], list[int]] = {}
        for place, query in enumerate(queries):
            placement = "" if isinstance(query, SimilarItemsQuery) else query.placement
            has_seed = next(seeded) if self._wants_seed(query) else False
            groups.setdefault((type(query), placement, has_seed), []).append(place)
        return groups

    def _wants_seed(self, query: Query) -> TypeGuard[RecommendQuery | ScoreQuery]:
        return not isinstance(query, SimilarItemsQuery) and self._plans[query.placement].role is ContextItems.SEED

    def _solve(
        self, group: Sequence[Query], states: ShopperStates | None, placement: str, watch: Stopwatch
    ) -> Sequence[Answer]:
        """One group, whose queries are all of one kind."""
        if recommend := [query for query in group if isinstance(query, RecommendQuery)]:
            return self._recommend(recommend, states, placement, watch)
        if score := [query for query in group if isinstance(query, ScoreQuery)]:
            return self._score(score, states, placement, watch)
        return self._similar_items([query for query in group if isinstance(query, SimilarItemsQuery)], watch)

    def _embed(
        self,
        queries: Sequence[RecommendQuery | ScoreQuery],
        states: ShopperStates | None,
        placement: str,
        watch: Stopwatch,
    ) -> tuple[Readied, Embedded]:
        readied = self._reader.read(queries, self._plans[placement].role, states)
        watch.lap("state")
        embedded = self._serving.recommender.embed(readied.shoppers)
        watch.lap("user_tower")
        return readied, embedded

    def _retrieve(
        self,
        readied: Readied,
        embedded: Embedded,
        exclusions: Exclusions,
        placement: str,
        watch: Stopwatch,
        allowed: Allowed | None = None,
    ) -> Candidates:
        settings = self._plans[placement].settings(seeded=readied.seeds is not None)
        candidates = self._serving.recommender.retrieve(embedded, settings, exclusions, readied.seeds, allowed)
        watch.lap("retrieve")
        return candidates

    def _recommend(
        self, queries: Sequence[RecommendQuery], states: ShopperStates | None, placement: str, watch: Stopwatch
    ) -> list[RecommendAnswer]:
        readied, embedded = self._embed(queries, states, placement, watch)
        hides_bought = [query.repeat_policy is RepeatPolicy.EXCLUDE_BOUGHT for query in queries]
        exclusions = self._exclusions(readied, np.array(hides_bought, np.bool_))
        allowed = self._filters.allowed(queries)
        candidates = self._retrieve(readied, embedded, exclusions, placement, watch, allowed)
        recommender = self._serving.recommender
        pairs = recommender.pair_inputs(embedded, candidates)
        scores = recommender.score(embedded, candidates, pairs, self._plans[placement].heads)
        answers = self._lists(queries, embedded, candidates, scores)
        if states is not None and states.gaps.any():
            gaps = map(StateGap, states.gaps.tolist())
            answers = [answer._replace(gap=gap) for answer, gap in zip(answers, gaps, strict=True)]
        watch.lap("rank")
        return answers

    def _exclusions(self, readied: Readied, hides_bought: NDArray[np.bool_]) -> Exclusions:
        """The requests' own exclusions and context items, and what was bought where `hides_bought` (B,) says so."""
        if len(readied.excluded_row) == 0 and not hides_bought.any():  # most often
            return Exclusions.of(readied.excluded_request, readied.excluded_row, len(hides_bought))
        bought = readied.shoppers.purchases.groups
        hidden = hides_bought[bought.request]
        return Exclusions.of(
            np.concatenate([readied.excluded_request, bought.request[hidden]]),
            np.concatenate([readied.excluded_row, bought.item_row[hidden]]),
            len(hides_bought),
        )

    def _lists(
        self,
        queries: Sequence[RecommendQuery],
        embedded: Embedded,
        candidates: Candidates,
        scores: NDArray[np.float32],
    ) -> list[RecommendAnswer]:
        rows, best, sources = top(candidates, scores, max(query.page_size for query in queries))
        counts = np.minimum((rows >= 0).sum(axis=1), [query.page_size for query in queries])
        lists = ListColumns(self._serving.item_ids, rows, counts, best, sources)
        generation_id = self.generation_id
        return [
            RecommendAnswer(
                lists,
                place,
                generation_id,
                shortfall=count < query.page_size,
                explanations=self._explain(embedded, place, rows[place, :count], sources[place, :count])
                if query.explain
                else (),
            )
            for place, (query, count) in enumerate(zip(queries, counts.tolist(), strict=True))
        ]

    def _explain(
        self, embedded: Embedded, place: int, rows: NDArray[np.int32], sources: SourceBits
    ) -> list[ItemExplanation]:
        purchases = embedded.shoppers.purchases
        asked = np.full((len(embedded.vectors), len(rows)), 0, np.int32)
        asked[place] = rows
        group = purchases.groups.find(asked)[place]
        similarity = self._serving.snapshot.items.vectors[rows] @ embedded.vectors[place]
        return [
            ItemExplanation(
                sources=Source(bits),
                similarity=float(cosine),
                times_bought=float(purchases.times[index]) if index >= 0 else 0.0,
                days_since_bought=float(purchases.days_since[index]) if index >= 0 else -1.0,
            )
            for bits, cosine, index in zip(sources.tolist(), similarity, group.tolist(), strict=True)
        ]

    def _score(
        self, queries: Sequence[ScoreQuery], states: ShopperStates | None, placement: str, watch: Stopwatch
    ) -> list[ScoreAnswer]:
        """Recommend's scores, bought items allowed and nothing excluded; items that no source brings are ranked too."""
        readied, embedded = self._embed(queries, states, placement, watch)
        exclusions = self._exclusions(readied, np.zeros(len(queries), np.bool_))
        brought = self._retrieve(readied, embedded, exclusions, placement, watch)
        recommender = self._serving.recommender
        width = max(len(query.item_ids) for query in queries)
        rows = np.full((len(queries), width), -1, np.int32)
        for place, query in enumerate(queries):
            rows[place, : len(query.item_ids)] = self._serving.item_ids.rows(query.item_ids)
        candidates = Candidates(rows, _sources_of(rows, brought, len(self._serving.item_ids)), brought.further)
        pairs = recommender.pair_inputs(embedded, candidates)
        scores = recommender.score(embedded, candidates, pairs, self._plans[placement].heads)
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
            vectors = serving.snapshot.items.vectors[rows[known]]
            scores, found = self._neighbours(vectors, [queries[place] for place in known.tolist()], depth)
            for line, place in enumerate(known.tolist()):
                hidden = [*left_out[place], int(rows[place]), -1]
                kept = np.flatnonzero(~np.isin(found[line], hidden))[: queries[place].page_size]
                answers[place] = SimilarItemsAnswer(
                    serving.item_ids.ids(found[line][kept]), scores[line][kept].tolist(), self.generation_id
                )
        watch.lap("retrieve")
        return answers

    def _neighbours(
        self, vectors: NDArray[np.float32], queries: Sequence[SimilarItemsQuery], depth: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest items (B, depth) to the vectors (B, D), of those that each query's filter allows."""
        searcher, allowed = self._serving.searcher, self._filters.allowed(queries)
        if allowed is None:
            return searcher.search(vectors, depth)
        scores, rows = empty_answer(len(vectors), depth)
        for place in np.unique(allowed.of_request).tolist():
            mine = allowed.of_request == place
            asked = searcher if place < 0 else allowed.filters[place].retriever
            scores[mine], rows[mine] = asked.search(vectors[mine], depth)
        return scores, rows


def _sources_of(rows: NDArray[np.int32], brought: Candidates, item_count: int) -> SourceBits:
    """(B, K) the bits of the sources that brought each row; 0 for a row that none did."""
    request, column = np.nonzero(brought.rows >= 0)
    if len(request) == 0:
        return np.zeros(rows.shape, np.uint32)
    key = request * item_count + brought.rows[request, column]  # ascending, as the rows of each request are
    asked = np.arange(len(rows), dtype=np.int64)[:, None] * item_count + rows
    place = np.minimum(np.searchsorted(key, asked), len(key) - 1)
    found = (key[place] == asked) & (rows >= 0)
    return np.where(found, brought.sources[request, column][place], np.uint32(0))
