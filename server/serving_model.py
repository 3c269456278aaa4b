"""One generation in memory: what the engine computes with. Data alone; `server.model` makes it from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from index.filters import AttributeTable
from index.generation.positions import LivePositions
from index.item_ids import ItemIds
from server.catalogue.live_ids import LiveItemIds
from server.catalogue.live_items import LiveItems
from server.catalogue.live_searcher import LiveSearcher
from towers.features.vocabularies import Vocabulary
from towers.model import TrainedModel
from towers.recommender import Recommender
from towers.snapshot import Snapshot


@dataclass(frozen=True)
class ServingModel:
    """One generation in memory: what the engine computes with.

    Attributes:
        generation_id: its name. model: towers, ranker, encoders. snapshot: items and users.
        item_ids, user_ids: the shop's ids of the snapshot's rows.
        positions: what of the events and changes outside it is in it already.
        recommender: the pure computation over all of it. searcher: nearest items, for SimilarItems and filters.
        live: what changes of the items while they are served; an engine computes each batch within it.
        attributes: what filters ask of the items; None in a generation that was made before there were filters.
    """

    generation_id: str
    model: TrainedModel
    snapshot: Snapshot
    item_ids: LiveItemIds
    user_ids: ItemIds
    positions: LivePositions
    recommender: Recommender
    searcher: LiveSearcher
    live: LiveItems
    attributes: AttributeTable | None = None

    @property
    def contexts(self) -> Mapping[str, Vocabulary]:
        """The declared context columns."""
        return self.model.encoders.contexts
