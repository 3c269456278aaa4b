"""Filters in the engine: from the expressions of a batch to what its requests are confined to, one mask a filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.filters import AttributeKind, Expression, FilterInvalid, FilterLimits, Mask, Masks, check
from index.searcher import Rows, Scores
from server.catalogue.live_searcher import LiveSearcher
from server.domain import FilterRefused, Query, RecommendQuery, ScoreQuery, SimilarItemsQuery
from server.serving_model import ServingModel
from towers.retrieval import Allowed, Confined

_ANY_SIZE = FilterLimits(10**6, 10**6, 10**6)
"""The edge has looked at sizes; here it is asked whether this generation, perhaps a newer one, has the attributes."""
NO_TABLE = "generation {} holds no attributes to filter by"


@dataclass(frozen=True, slots=True)
class ConfinedSearch:
    """The nearest of the rows that a mask allows."""

    searcher: LiveSearcher
    mask: Mask

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """(B, D) → scores and rows (B, k); k of them where the mask allows k."""
        mask = self.mask
        return self.searcher.search_allowed(queries, k, mask.allowed, mask.count, mask.rows)


class ItemFilters:
    """What the filters of one generation's queries allow."""

    def __init__(self, serving: ServingModel) -> None:
        self._serving = serving
        table = serving.attributes
        self.masks = Masks(table, serving.snapshot.items.retrievable) if table is not None else None
        if self.masks is not None:
            serving.live.listen(self.masks.changed)

    @property
    def kinds(self) -> Mapping[str, AttributeKind] | None:
        """The attributes that a filter may name; None where the generation has no table of them."""
        return self._serving.attributes.kinds if self._serving.attributes is not None else None

    def refusal(self, query: Query) -> FilterRefused | None:
        """Why the query cannot be answered here; it was decoded for a generation that may have had other attributes."""
        if isinstance(query, ScoreQuery) or query.filter is None:
            return None
        generation_id = self._serving.generation_id
        if self.kinds is None:
            return FilterRefused("filter", NO_TABLE.format(generation_id), generation_id)
        try:
            check(query.filter, self.kinds, _ANY_SIZE)
        except FilterInvalid as error:
            path = f"filter.{error.problem.path}" if error.problem.path else "filter"
            return FilterRefused(path, error.problem.description, generation_id)
        return None

    def allowed(self, queries: Sequence[RecommendQuery] | Sequence[SimilarItemsQuery]) -> Allowed | None:
        """What queries that were not refused are confined to; None where none of them has a filter."""
        places: dict[Expression, int] = {}
        for query in queries:
            if query.filter is not None:
                places.setdefault(query.filter, len(places))
        if not places:
            return None
        of_request = [places[query.filter] if query.filter is not None else -1 for query in queries]
        return Allowed(
            tuple(self._confined(expression) for expression in places),
            np.array(of_request, np.int64),
            np.array([query.page_size for query in queries], np.int64),
        )

    def _confined(self, expression: Expression) -> Confined:
        assert self.masks is not None, "the query was to be refused"
        mask = self.masks.of(expression)
        return Confined(mask.allowed, ConfinedSearch(self._serving.searcher, mask))
