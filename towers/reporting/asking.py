"""Asks the recommender offline: lists with scores and sources, each source left out in turn, histories cut short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towers.candidates import Exclusions
from towers.evaluation import EvaluationSet
from towers.features.histories import BoolArray, Int32Array
from towers.learning_data import LearningData, encode
from towers.model import TrainedModel
from towers.offline import recommender_at
from towers.recommender import Embedded, Recommender, Shoppers, top
from towers.reporting.lists import SOURCE_BIT_OF, RankedLists
from towers.schema import Dataset
from towers.settings import CandidateSettings
from towers.training.cuts import USERS_PER_BATCH, RetrieverFactory, last_context, shoppers_at

USED_AT_HOME = tuple(name for name in SOURCE_BIT_OF if name != "similar")
"""The sources that answer without context items, which nobody sends in an evaluation."""


@dataclass(frozen=True)
class Asker:
    """A trained model as of one moment, to be asked for many users."""

    data: LearningData
    model: TrainedModel
    recommender: Recommender
    asked_at_s: int

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        model: TrainedModel,
        asked_at_s: int,
        retrievers: RetrieverFactory,
        retrievable: BoolArray | None = None,
    ) -> Asker:
        """Embeds the catalogue; `retrievable` as in `recommender_at`."""
        data = encode(dataset, model.encoders, model.settings, model.towers_until_s)
        return cls(data, model, recommender_at(data, model, asked_at_s, retrievers, retrievable), asked_at_s)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that are on."""
        return tuple(name for name in USED_AT_HOME if getattr(self.model.settings.candidates, name) > 0)

    def ask(self, asked: EvaluationSet, k: int, left_out: Sequence[str] = ()) -> dict[str, RankedLists]:
        """The lists with all sources, under "", and those with each source of `left_out` at depth 0, under its name.

        A source that is left out brings no candidate and gives the ranker no score; the ranker itself stays.
        """
        settings = self.model.settings.candidates
        variants = {"": settings} | {name: settings.model_copy(update={name: 0}) for name in left_out}
        found = {name: RankedLists.empty(asked.user_count, k) for name in variants}
        for begin, users in _batches(asked.user_rows):
            context = last_context(self.data, users, self.asked_at_s)
            shoppers = shoppers_at(self.data, self.model.settings, users, self.asked_at_s, context)
            embedded = self.recommender.embed(shoppers)
            exclusions = _bought(embedded, hidden=asked.exclude_bought)
            for name, candidates in variants.items():
                self._answer(embedded, candidates, exclusions, begin, found[name])
        return found

    def ask_as_strangers(self, asked: EvaluationSet, k: int, event_count: int) -> RankedLists:
        """The lists as if each user were unknown but for their newest `event_count` events: no id, no attributes."""
        found = RankedLists.empty(asked.user_count, k)
        for begin, users in _batches(asked.user_rows):
            shoppers = self._strangers(users, event_count)
            embedded = self.recommender.embed(shoppers)
            exclusions = _bought(embedded, hidden=asked.exclude_bought)
            self._answer(embedded, self.model.settings.candidates, exclusions, begin, found)
        return found

    def nearest(self, asked: EvaluationSet, k: int, retrievers: RetrieverFactory) -> Int32Array:
        """(U, k) the items whose vectors are nearest to each user's, without ranker or any other source."""
        retriever = retrievers(self.recommender.items)
        found = np.full((asked.user_count, k), -1, np.int32)
        for begin, users in _batches(asked.user_rows):
            context = last_context(self.data, users, self.asked_at_s)
            shoppers = shoppers_at(self.data, self.model.settings, users, self.asked_at_s, context)
            _, rows = retriever.search(self.recommender.embed(shoppers).vectors, k)
            found[begin : begin + len(users), : rows.shape[1]] = rows
        return found

    def newest_events(self, users: Int32Array, event_count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(B,) first and last + 1 place in the log of each user's newest events before the moment."""
        log = self.data.histories
        before = np.concatenate([[0], np.cumsum(log.time_s < self.asked_at_s)])
        end = log.offsets[users] + before[log.offsets[users + 1]] - before[log.offsets[users]]
        return np.maximum(log.offsets[users], end - event_count), end

    def _strangers(self, users: Int32Array, event_count: int) -> Shoppers:
        start, end = self.newest_events(users, event_count)
        as_of_s = np.full(len(users), self.asked_at_s, np.int64)
        event_count_max = self.model.settings.features.history_events_max
        histories = self.data.histories.spans(start, end, as_of_s, event_count_max)
        context = last_context(self.data, users, self.asked_at_s)
        if event_count == 0:
            context = np.zeros_like(context)
        attribute = np.zeros_like(self.data.users.attribute[users])
        return Shoppers.of(histories, np.zeros(len(users), np.int32), attribute, context)

    def _answer(
        self, embedded: Embedded, settings: CandidateSettings, exclusions: Exclusions, begin: int, out: RankedLists
    ) -> None:
        """Writes the lists of one batch into `out` from row `begin` on."""
        recommender = self.recommender
        candidates = recommender.retrieve(embedded, settings, exclusions)
        if candidates.rows.shape[1] == 0:
            return
        scores = recommender.score(embedded, candidates, recommender.pair_inputs(embedded, candidates))
        rows, best, sources = top(candidates, scores, out.rows.shape[1])
        lines, width = slice(begin, begin + len(rows)), rows.shape[1]
        out.rows[lines, :width] = rows
        out.scores[lines, :width] = np.where(rows >= 0, best, np.nan)
        out.sources[lines, :width] = np.where(rows >= 0, sources, 0)


def _batches(users: Int32Array) -> Iterator[tuple[int, Int32Array]]:
    for begin in range(0, len(users), USERS_PER_BATCH):
        yield begin, users[begin : begin + USERS_PER_BATCH]


def _bought(embedded: Embedded, *, hidden: bool) -> Exclusions:
    groups = embedded.shoppers.purchases.groups
    chosen = slice(None) if hidden else slice(0)
    return Exclusions.of(groups.request[chosen], groups.item_row[chosen], len(embedded.shoppers))
