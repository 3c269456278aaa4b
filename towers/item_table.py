"""The item table as of one moment: what retrieval and ranking know of the catalogue then."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from towers.candidates import ItemTable, code_counts
from towers.features.histories import FloatArray
from towers.features.item_statistics import item_statistics
from towers.learning_data import LearningData, retrievable_items
from towers.settings import LearningSettings
from towers.sources.base import CandidateSource

POPULAR_MAX = 4_000
"""How many popular items are kept: deep enough that a shopper's bought and excluded ones can be left out."""


def item_table(
    data: LearningData,
    vectors: FloatArray,
    settings: LearningSettings,
    as_of_s: int,
    sources: Mapping[str, CandidateSource] = MappingProxyType({}),
) -> ItemTable:
    """Statistics, popularity and availability from the events before `as_of_s`, beside the given vectors (n, D).

    `as_of_s` is the moment that is asked about, or where `[training] sources_end` lets learning end
    (`learned_until_s`). `sources`: the further sources as of the same moment (`sources_at`).
    """
    statistics = item_statistics(data.histories, data.item_count, as_of_s)
    retrievable = retrievable_items(data.histories, data.item_count, as_of_s, settings.training.item_users_min)
    order = np.lexsort((-statistics.values[:, 0], -statistics.popularity))  # equal lately: more buyers ever first
    popular = order[retrievable[order]][:POPULAR_MAX].astype(np.int32)
    names = list(data.encoders.items.categorical)
    columns = [names.index(name) for name in settings.features.affinity_attributes]
    affinity = np.ascontiguousarray(data.items.attribute_code[:, columns])  # (n, A)
    return ItemTable(vectors, statistics.values, affinity, code_counts(affinity), popular, retrievable, sources)
