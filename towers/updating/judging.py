"""What a model answers to questions, each as of its own moment, and what the answers are worth.

It is the recommender that serves: the item table is that of a generation, the histories are as fresh as the store's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from towers.candidates import ItemTable
from towers.evaluation import Bootstrap, Interval, per_user_metrics
from towers.evaluation.metrics import FloatArray as MetricArray
from towers.features.histories import FloatArray, Int32Array, Int64Array
from towers.features.vocabularies import user_buckets
from towers.learning_data import LearningData
from towers.model import TrainedModel
from towers.models.item_tower import ItemTensors
from towers.recommender import Recommender, Shoppers, UserEmbedder, ranker_item_part, top
from towers.schema import Dataset
from towers.sources.registry import sources_at
from towers.training.cuts import USERS_PER_BATCH, RetrieverFactory, hidden_items
from towers.training.tower_task import embed_items
from towers.updating.item_log import ItemLog
from towers.updating.questions import Questions

LIST_LENGTH = 20


@dataclass(frozen=True, eq=False)
class Contender:
    """A model with the item table that it would be published with."""

    model: TrainedModel
    table: ItemTable
    recommender: Recommender


def item_vectors(data: LearningData, model: TrainedModel) -> FloatArray:
    """(items, D) of the whole catalogue."""
    vectors: FloatArray = embed_items(model.item_tower, ItemTensors.of(data.items, torch.device("cpu"))).numpy()
    return vectors


class Tables:
    """The item tables of generations built from one model at any moment."""

    def __init__(self, data: LearningData, model: TrainedModel, log: ItemLog) -> None:
        self._data, self._model, self._log = data, model, log
        self.vectors = item_vectors(data, model)

    def at(self, as_of_s: int) -> ItemTable:
        """What such a generation knows of the catalogue."""
        table = self._log.table(self._data, self.vectors, self._model.settings, as_of_s)
        sources = sources_at(self._data, self._model.settings, as_of_s, self._model.towers_until_s)
        return replace(table, sources=sources)


def contender(model: TrainedModel, table: ItemTable, retrievers: RetrieverFactory) -> Contender:
    """The model over the table, as a generation would serve it."""
    embedder = UserEmbedder(model.user_tower, table.vectors, model.settings.features.sequence_events_max)
    part = ranker_item_part(model.ranker, table)
    return Contender(model, table, Recommender(embedder, model.ranker, table, part, retrievers(table)))


def active_until(data: LearningData, dataset: Dataset, model: TrainedModel) -> LearningData:
    """The encoded dataset as this model reads it: users that its towers never saw have no bucket."""
    active = np.zeros(dataset.user_count, np.bool_)
    active[dataset.events.user_row[dataset.events.time_s < model.towers_until_s]] = True
    bucket = user_buckets(dataset.users["user_id"].to_list(), model.settings.features.user_id_buckets)
    return replace(data, users=replace(data.users, bucket=np.where(active, bucket, 0).astype(np.int32)))


def answer(
    data: LearningData, asked: Contender, questions: Questions, histories_until_s: int | None = None
) -> Int32Array:
    """(Q, LIST_LENGTH) item rows, best first, -1 pads.

    Args:
        data: all events, also those after the questions: a history ends before its question.
        asked: who answers.
        questions: what is asked.
        histories_until_s: histories end there at the latest; None where they are fresh.
    """
    out = np.full((len(questions), LIST_LENGTH), -1, np.int32)
    recommender, settings = asked.recommender, asked.model.settings
    for begin in range(0, len(questions), USERS_PER_BATCH):
        chosen = slice(begin, begin + USERS_PER_BATCH)
        shoppers = shoppers_of(
            data, asked.model, questions.user_row[chosen], questions.asked_at_s[chosen], histories_until_s
        )
        embedded = recommender.embed(shoppers)
        candidates = recommender.retrieve(embedded, settings.candidates, hidden_items(embedded, settings))
        scores = recommender.score(embedded, candidates, recommender.pair_inputs(embedded, candidates))
        rows, _, _ = top(candidates, scores, LIST_LENGTH)
        out[begin : begin + len(rows), : rows.shape[1]] = rows
    return out


def shoppers_of(
    data: LearningData, model: TrainedModel, users: Int32Array, asked_at_s: Int64Array, until_s: int | None = None
) -> Shoppers:
    """The users (B,) as they stood at their own moments (B,); histories end at `until_s` at the latest."""
    log = data.histories
    end_s = asked_at_s if until_s is None else np.minimum(asked_at_s, until_s)
    start, whole = log.offsets[users], log.offsets[users + 1]
    end = np.array(
        [a + np.searchsorted(log.time_s[a:b], s) for a, b, s in zip(start, whole, end_s, strict=True)], np.int64
    ).reshape(len(users))
    context = np.zeros((len(users), data.context.shape[1]), np.int32)
    if context.shape[1]:
        has_events = end > start
        context[has_events] = data.context[end[has_events] - 1]
    histories = log.spans(start, end, asked_at_s, model.settings.features.history_events_max)
    return Shoppers.of(histories, data.users.bucket[users], data.users.attribute[users], context)


def ndcg(rankings: Int32Array, questions: Questions) -> MetricArray:
    """(Q,) NDCG@LIST_LENGTH of the answers."""
    return per_user_metrics(rankings, questions.relevant, (LIST_LENGTH,))[f"ndcg@{LIST_LENGTH}"]


def lead(first: MetricArray, second: MetricArray) -> Interval:
    """By how much the first answers (Q,) are better than the second, paired by question."""
    return Bootstrap().paired_difference(first, second)
