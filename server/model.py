"""From a verified generation to an engine: map the files, check that they fit each other, answer the golden queries.

Files of a generation, beside its manifest:

    model.json, towers.safetensors, ranker.safetensors     the trained model (towers.model)
    items.safetensors, users.safetensors                   the snapshot (towers.snapshot), memory-mapped
    items.ids, users.ids                                   the shop's ids, row by row
    index.faiss or index.safetensors                       the searcher over the retrievable rows
    catalogue.parquet                                      item attributes, row by row, for filters
    golden.json                                            queries and the answers that this generation must give
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from threadpoolctl import threadpool_limits

from index.item_ids import ItemIds
from index.mapped_tensors import TensorFileInvalid, open_tensors
from index.searcher import Searcher
from index.storage import find_index_file, open_searcher
from server.config import PlacementConfig
from server.engine import Engine
from server.golden import GOLDEN_FILE, check_golden
from towers.features.vocabularies import Vocabulary
from towers.model import MODEL_FILE, RANKER_FILE, TOWERS_FILE, ModelInvalid, TrainedModel, model_from_files
from towers.recommender import Recommender, UserEmbedder
from towers.snapshot import ITEMS_FILE, USERS_FILE, Snapshot, SnapshotInvalid

ITEM_IDS_FILE, USER_IDS_FILE, CATALOGUE_FILE = "items.ids", "users.ids", "catalogue.parquet"


class GenerationUnfit(ValueError):
    """The generation is whole, but its parts do not fit each other or this server; the message names the file."""


class GenerationFiles(Protocol):
    """A verified generation's files."""

    @property
    def id(self) -> str:
        """The generation's id."""

    def path(self, name: str) -> Path:
        """Where the file lies."""


@dataclass(frozen=True)
class ServingModel:
    """One generation in memory: what the engine computes with.

    Attributes:
        generation_id: its name. model: towers, ranker, encoders. snapshot: items and users.
        item_ids, user_ids: the shop's ids of the snapshot's rows.
        recommender: the pure computation over all of it. searcher: nearest items, for SimilarItems.
    """

    generation_id: str
    model: TrainedModel
    snapshot: Snapshot
    item_ids: ItemIds
    user_ids: ItemIds
    recommender: Recommender
    searcher: Searcher

    @property
    def contexts(self) -> Mapping[str, Vocabulary]:
        """The declared context columns."""
        return self.model.encoders.contexts


def open_serving_model(generation: GenerationFiles) -> ServingModel:
    """Maps a generation whose checksums have been verified.

    Raises:
        GenerationUnfit: a file is missing, cannot be read, or does not fit the others; the message names it.
    """
    try:
        model_files = (MODEL_FILE, TOWERS_FILE, RANKER_FILE)
        model = model_from_files({name: generation.path(name).read_bytes() for name in model_files})
        snapshot = Snapshot.from_arrays(
            open_tensors(generation.path(ITEMS_FILE)),
            open_tensors(generation.path(USERS_FILE)),
            model.encoders.target_codes,
            model.settings.features.affinity_attributes,
        )
        item_ids = ItemIds.open(generation.path(ITEM_IDS_FILE))
        user_ids = ItemIds.open(generation.path(USER_IDS_FILE))
        index_name = find_index_file(path.name for path in generation.path(MODEL_FILE).parent.iterdir())
        searcher = open_searcher(generation.path(index_name))
    except (ModelInvalid, SnapshotInvalid, TensorFileInvalid, OSError, ValueError) as error:
        raise GenerationUnfit(f"{generation.id}: {error}") from error
    dimension, hidden = model.settings.towers.dimension, model.settings.ranker.hidden[0]
    facts = {
        f"dimension of {index_name}": (searcher.dimension, dimension),
        f"items of {index_name}": (searcher.item_count, snapshot.retrievable_count),
        f"dimension of vectors in {ITEMS_FILE}": (snapshot.items.vectors.shape[1], dimension),
        f"width of item_part in {ITEMS_FILE}": (snapshot.item_part.shape[1], hidden),
        f"ids in {ITEM_IDS_FILE}": (len(item_ids), len(snapshot.items.vectors)),
        f"ids in {USER_IDS_FILE}": (len(user_ids), snapshot.histories.user_count),
    }
    for what, (found, expected) in facts.items():
        if found != expected:
            raise GenerationUnfit(f"{generation.id}: {what} is {found}; the rest of the generation says {expected}")
    embedder = UserEmbedder(model.user_tower, snapshot.items.vectors, model.settings.features.sequence_events_max)
    recommender = Recommender(embedder, model.ranker, snapshot.items, snapshot.item_part, searcher)
    return ServingModel(generation.id, model, snapshot, item_ids, user_ids, recommender, searcher)


def load_engine(generation: GenerationFiles, placements: Mapping[str, PlacementConfig]) -> Engine:
    """An engine that has warmed up and given its golden answers. Raises GenerationUnfit, GoldenMismatch."""
    torch.set_num_threads(1)  # one core a worker: more threads would only wait for each other
    threadpool_limits(1)
    serving = open_serving_model(generation)
    check_golden(serving, generation.path(GOLDEN_FILE))  # warms up every stage, too
    return Engine(serving, placements)
