"""From a verified generation to an engine: map the files, check that they fit each other, answer the golden queries.

Files of a generation, beside its manifest:

    model.json, towers.safetensors, ranker.safetensors     the trained model (towers.model)
    items.safetensors, users.safetensors                   the snapshot (towers.snapshot), memory-mapped; what changes
                                                           of the items while they are served stays in this process
    items.ids, users.ids                                   the shop's ids, row by row
    index.faiss or index.….safetensors                     the searcher over the retrievable rows (index.storage)
    live.json                                              how far it has followed the store
    attributes.safetensors, attributes.json                item attributes, row by row, for filters (index.filters)
    catalogue.parquet                                      the items as the shop gave them, row by row
    golden.json                                            queries and the answers that this generation must give
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from index.filters.attributes import ATTRIBUTES_FILE, VOCABULARIES_FILE, AttributeTable
from index.generation.positions import POSITIONS_FILE, LivePositions
from index.item_ids import ItemIds
from index.mapped_tensors import open_tensors
from index.storage import find_index_file, open_searcher
from server.catalogue.document import position_of
from server.catalogue.item_embedder import ItemEmbedder
from server.catalogue.live_ids import LiveItemIds
from server.catalogue.live_items import LiveItems, LiveTables
from server.catalogue.live_searcher import LiveSearcher
from server.config import PlacementConfig
from server.engine import Engine
from server.fitness import CATALOGUE_FILE, ITEM_IDS_FILE, USER_IDS_FILE, GenerationUnfit, check_catalogue, check_fit
from server.golden import GOLDEN_FILE, check_golden
from server.placements import heads_missing
from server.serving_model import ServingModel
from server.shoppers import RecentSettings
from server.threads import compute_on_one_thread
from towers.model import MODEL_FILE, RANKER_FILE, TOWERS_FILE, model_over
from towers.recommender import Recommender, UserEmbedder
from towers.snapshot import ITEMS_FILE, SOURCES_FILE, USERS_FILE, Snapshot


class GenerationFiles(Protocol):
    """A verified generation's files."""

    @property
    def id(self) -> str:
        """The generation's id."""

    @property
    def names(self) -> Collection[str]:
        """The names of its files."""

    def path(self, name: str) -> Path:
        """Where the file lies."""


def open_serving_model(generation: GenerationFiles, *, examined: bool = False) -> ServingModel:
    """Maps a generation whose checksums have been verified; `examined`: and which another process found to be fit.

    Raises:
        GenerationUnfit: a file is missing, cannot be read, or does not fit the others; the message names it.
    """
    try:
        model = model_over(
            generation.path(MODEL_FILE).read_bytes(),
            open_tensors(generation.path(TOWERS_FILE), private=True),
            open_tensors(generation.path(RANKER_FILE), private=True),
        )
        tables = open_tensors(generation.path(ITEMS_FILE), private=True)
        affinity_attributes = model.settings.features.affinity_attributes
        snapshot = Snapshot.from_arrays(
            {name: _read_only(array) for name, array in tables.items()},
            open_tensors(generation.path(USERS_FILE)),
            model.encoders.target_codes,
            affinity_attributes,
            [len(model.encoders.items.categorical[name]) for name in affinity_attributes],
            open_tensors(generation.path(SOURCES_FILE)) if SOURCES_FILE in generation.names else {},
        )
        positions = _positions(generation, snapshot)
        item_ids = LiveItemIds(ItemIds.open(generation.path(ITEM_IDS_FILE)))
        user_ids = ItemIds.open(generation.path(USER_IDS_FILE))
        index_name = find_index_file(generation.names)
        live = LiveItems(LiveTables.of(tables), item_ids, snapshot.retrievable_count, ItemEmbedder(model))
        live.position = live.built_in = position_of(positions.catalogue_position)
        searcher = LiveSearcher(open_searcher(generation.path(index_name)), live)
        attributes = None
        if ATTRIBUTES_FILE in generation.names:
            attributes = AttributeTable.open(generation.path(ATTRIBUTES_FILE), generation.path(VOCABULARIES_FILE))
            live.table_follows(attributes)
    except (OSError, ValueError) as error:
        raise GenerationUnfit(f"{generation.id}: {error}") from error
    embedder = UserEmbedder(model.user_tower, snapshot.items.vectors, model.settings.features.sequence_events_max)
    recommender = Recommender(embedder, model.ranker, snapshot.items, snapshot.item_part, searcher)
    serving = ServingModel(
        generation.id, model, snapshot, item_ids, user_ids, positions, recommender, searcher, live, attributes
    )
    if not examined:
        check_fit(serving, index_name)
        check_catalogue(serving, generation.path(CATALOGUE_FILE))
    return serving


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """What the engine sees: only the live catalogue writes."""
    view = array.view()
    view.flags.writeable = False
    return view


def _positions(generation: GenerationFiles, snapshot: Snapshot) -> LivePositions:
    """As the generation says; one that does not say was built from files alone."""
    if POSITIONS_FILE in generation.names:
        try:
            positions = LivePositions.model_validate_json(generation.path(POSITIONS_FILE).read_bytes())
            position_of(positions.catalogue_position)
        except ValueError as error:
            raise ValueError(f"{POSITIONS_FILE} does not say how far the generation followed the store") from error
        return positions
    return LivePositions(files_until_s=int(snapshot.histories.time_s.max(initial=-1)) + 1)


def load_engine(
    generation: GenerationFiles,
    placements: Mapping[str, PlacementConfig],
    recent: RecentSettings = RecentSettings(),
    *,
    examined: bool = False,
) -> Engine:
    """An engine that has warmed up and given its golden answers. Raises GenerationUnfit, GoldenMismatch."""
    compute_on_one_thread()
    serving = open_serving_model(generation, examined=examined)
    if missing := heads_missing(placements, serving.recommender.heads):
        raise GenerationUnfit(f"{generation.id}: {missing}")
    check_golden(serving, generation.path(GOLDEN_FILE), examined=examined)  # warms up every stage, too
    return Engine(serving, placements, recent)
