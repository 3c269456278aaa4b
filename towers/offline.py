"""Lists without a server: the trained model asked for many users at one moment, for evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from towers.candidates import Exclusions
from towers.evaluation import EvaluationSet
from towers.features.histories import BoolArray, Int32Array
from towers.item_table import item_table
from towers.learning_data import LearningData, encode
from towers.model import TrainedModel
from towers.models.item_tower import ItemTensors
from towers.recommender import Recommender, UserEmbedder, ranker_item_part, top
from towers.schema import Dataset
from towers.sources.registry import sources_at
from towers.training.cuts import USERS_PER_BATCH, RetrieverFactory, last_context, shoppers_at
from towers.training.tower_task import embed_items


def recommender_at(
    data: LearningData,
    model: TrainedModel,
    as_of_s: int,
    retrievers: RetrieverFactory,
    retrievable: BoolArray | None = None,
) -> Recommender:
    """The trained model over the catalogue as of one moment.

    Args:
        data: the dataset through the model's encoders.
        model: what was trained.
        as_of_s: epoch seconds; statistics and sources see events before it.
        retrievers: builds the search for nearest items.
        retrievable: (n,) which items may be recommended; None: those that the settings admit at that moment.
    """
    settings = model.settings
    vectors = embed_items(model.item_tower, ItemTensors.of(data.items, torch.device("cpu"))).numpy()
    sources = sources_at(data, settings, as_of_s, model.towers_until_s)
    known_s = settings.training.learned_until_s(as_of_s, model.towers_until_s)
    table = item_table(data, vectors, settings, known_s, sources)
    if retrievable is not None:
        table = replace(table, retrievable=retrievable)
    return Recommender(
        UserEmbedder(model.user_tower, vectors, settings.features.sequence_events_max),
        model.ranker,
        table,
        ranker_item_part(model.ranker, table),
        retrievers(table),
    )


def rank_users(
    dataset: Dataset, model: TrainedModel, asked: EvaluationSet, retrievers: RetrieverFactory, k: int
) -> Int32Array:
    """The model's k best items for every user of the evaluation set, asked as of its moment.

    Returns:
        (U, k) item rows of the dataset, best first, -1 pads.
    """
    settings = model.settings
    data = encode(dataset, model.encoders, settings, model.towers_until_s)
    recommender = recommender_at(data, model, asked.asked_at_s, retrievers)
    out = np.full((asked.user_count, k), -1, np.int32)
    for begin in range(0, asked.user_count, USERS_PER_BATCH):
        users = asked.user_rows[begin : begin + USERS_PER_BATCH]
        context = last_context(data, users, asked.asked_at_s)
        embedded = recommender.embed(shoppers_at(data, settings, users, asked.asked_at_s, context))
        bought = embedded.shoppers.purchases.groups
        hidden = slice(None) if asked.exclude_bought else slice(0)
        exclusions = Exclusions.of(bought.request[hidden], bought.item_row[hidden], len(users))
        candidates = recommender.retrieve(embedded, settings.candidates, exclusions)
        scores = recommender.score(embedded, candidates, recommender.pair_inputs(embedded, candidates))
        rows, _, _ = top(candidates, scores, k)
        out[begin : begin + len(users), : rows.shape[1]] = rows
    return out
