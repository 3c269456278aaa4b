"""What the models make of documents: vectors by the item tower's content path, and codes for the ranker's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from server.catalogue.document import ItemDocument, Value
from towers.candidates import ItemTable
from towers.features.histories import FloatArray, Histories, Int32Array
from towers.features.item_statistics import item_statistics
from towers.model import TrainedModel
from towers.models.item_tower import ItemTensors
from towers.recommender import ranker_item_part

UNKNOWN_CATEGORY, UNKNOWN_TEXT = "unknown", ""
"""As ingest fills them in."""
_BATCH_SIZE = 512
"""Items embedded at once: a bulk of 1,000 is two passes of the tower, whose arrays stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class EmbeddedItems:
    """m items: `vectors` (m, D) of unit length, `affinity` (m, A) codes of the affinity attributes."""

    vectors: FloatArray
    affinity: Int32Array


class ItemEmbedder:
    """Reads items as training did. An item that the model has an id embedding for is placed by it, too."""

    def __init__(self, model: TrainedModel) -> None:
        self._model = model
        self._encoder = model.encoders.items
        names = list(self._encoder.categorical)
        self._affinity_columns = [names.index(name) for name in model.settings.features.affinity_attributes]
        self.statistics_of_nobodys = _statistics_of_nobodys()
        """(S,) statistics of an item that nobody bought yet."""

    def embed(self, item_ids: Sequence[str], documents: Sequence[ItemDocument]) -> EmbeddedItems:
        """The items of these ids and documents, none of which is deleted."""
        arrays = self._encoder.encode(self.table(item_ids, [document.attributes for document in documents]))
        with torch.inference_mode():
            pieces = [
                self._model.item_tower(ItemTensors.of(arrays.take(part), torch.device("cpu"))).numpy()
                for part in _parts(len(item_ids))
            ]
        affinity = np.ascontiguousarray(arrays.attribute_code[:, self._affinity_columns])
        dimension = self._model.settings.towers.dimension
        vectors = np.concatenate(pieces) if pieces else np.zeros((0, dimension), np.float32)
        return EmbeddedItems(vectors, affinity)

    def table(self, item_ids: Sequence[str], attributes: Sequence[Mapping[str, Value]]) -> pl.DataFrame:
        """The columns that the item tower reads; what is unknown is filled in as ingest does, a number by its mean."""
        encoder = self._encoder
        columns: dict[str, list[Value]] = {"item_id": list(item_ids)}
        for names, fill in (
            (encoder.categorical, dict.fromkeys(encoder.categorical, UNKNOWN_CATEGORY)),
            (encoder.text, dict.fromkeys(encoder.text, UNKNOWN_TEXT)),
            (encoder.numeric, {name: scale[0] for name, scale in encoder.numeric.items()}),
        ):
            for name in names:
                columns[name] = [values.get(name, fill[name]) for values in attributes]
        schema = {name: pl.Float32 if name in encoder.numeric else pl.String for name in columns}
        return pl.DataFrame(columns, schema=schema)

    def item_part(self, vectors: FloatArray, statistics: FloatArray) -> FloatArray:
        """(m, H) the ranker's share of items with these vectors (m, D) and statistics (m, S)."""
        nothing = np.zeros((len(vectors), 0), np.int32)
        table = ItemTable(
            vectors, statistics, nothing, np.zeros(0, np.int64), np.zeros(0, np.int32), np.ones(len(vectors), np.bool_)
        )
        return ranker_item_part(self._model.ranker, table)


def _parts(count: int) -> list[Int32Array]:
    return [np.arange(begin, min(begin + _BATCH_SIZE, count), dtype=np.int32) for begin in range(0, count, _BATCH_SIZE)]


def _statistics_of_nobodys() -> FloatArray:
    nothing = np.zeros(0, np.int32)
    empty = Histories(np.zeros(1, np.int64), nothing, nothing.astype(np.uint8), nothing.astype(np.int64), ())
    values: FloatArray = item_statistics(empty, 1, 0).values[0]
    return values
