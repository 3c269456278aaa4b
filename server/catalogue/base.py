"""The current generation as the writer of the catalogue needs it: ids and attributes, without models or vectors.

Ids are mapped, attributes are read from catalogue.parquet for the items that are asked about and for no other: the
process that writes holds no generation in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from index.generation import current_id, read_manifest
from index.generation.layout import generation_directory
from index.item_ids import ItemIds
from index.mapped_tensors import open_tensors
from server.catalogue.document import ItemDocument
from server.errors import NoGeneration

if TYPE_CHECKING:
    import polars as pl

_IDS_FILE, _ITEMS_FILE, _CATALOGUE_FILE = "items.ids", "items.safetensors", "catalogue.parquet"
"""As `server.fitness` and `towers.snapshot` name them; both import torch, which this process does without."""

_ROWS_ONE_BY_ONE_MAX = 4
"""Up to here a row at a time is read, 3 ms each; to look through a million items takes 30."""


class ValueKind(StrEnum):
    """What an attribute's value is."""

    TEXT = "text"
    NUMBER = "number"


@dataclass(frozen=True)
class BaseCatalogue:
    """What one generation holds of the catalogue.

    Attributes:
        columns: the attributes that items have, and what their values are.
        retrievable_count: rows [0, retrievable_count) may be recommended. spare_row_count: rows for new items.
    """

    generation_id: str
    ids: ItemIds
    columns: Mapping[str, ValueKind]
    retrievable_count: int
    spare_row_count: int
    path: Path

    def knows(self, item_ids: Sequence[str]) -> list[bool]:
        """Whether each item is one of the generation's."""
        return [bool(row >= 0) for row in self.ids.rows(item_ids)]

    def documents(self, item_ids: Sequence[str]) -> dict[str, ItemDocument]:
        """Those of the items that the generation holds, as it was built; reads from disk."""
        import polars as pl

        rows = dict(zip(item_ids, self.ids.rows(item_ids).tolist(), strict=True))
        known = [item_id for item_id, row in rows.items() if row >= 0]
        if not known:
            return {}
        catalogue = pl.scan_parquet(self.path, glob=False)
        if len(known) <= _ROWS_ONE_BY_ONE_MAX:
            table = pl.concat([catalogue.slice(rows[item_id], 1).collect() for item_id in known])
        else:
            asked = pl.Series(known, dtype=pl.String)
            table = catalogue.filter(pl.col("item_id").is_in(asked.implode())).collect()
        return {
            str(line["item_id"]): ItemDocument(
                {name: line[name] for name in self.columns if line[name] is not None},
                available=rows[line["item_id"]] < self.retrievable_count,
            )
            for line in table.iter_rows(named=True)
        }


class CurrentCatalogue:
    """The catalogue of the generation that CURRENT names, opened when it is first asked for and when it changes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._opened: BaseCatalogue | None = None

    def get(self) -> BaseCatalogue:
        """Reads from disk. Raises NoGeneration, GenerationError, OSError."""
        generation_id = current_id(self._root)
        if generation_id is None:
            raise NoGeneration
        opened = self._opened
        if opened is None or opened.generation_id != generation_id:
            opened = self._opened = open_base(self._root, generation_id)
        return opened


def open_base(root: Path, generation_id: str) -> BaseCatalogue:
    """Opens what the writer needs of a generation; the workers have verified its files.

    Raises GenerationError, OSError.
    """
    import polars as pl

    metadata = read_manifest(root, generation_id).metadata
    directory = generation_directory(root, generation_id)
    tables = open_tensors(directory / _ITEMS_FILE)
    spare = int(tables["spare_row_count"][0]) if "spare_row_count" in tables else 0
    retrievable = metadata.get("retrievable_count")
    schema = pl.read_parquet_schema(directory / _CATALOGUE_FILE)
    return BaseCatalogue(
        generation_id,
        ItemIds.open(directory / _IDS_FILE),
        _columns(schema),
        retrievable if isinstance(retrievable, int) else int(tables["retrievable"].sum()),
        spare,
        directory / _CATALOGUE_FILE,
    )


def _columns(schema: Mapping[str, pl.DataType]) -> dict[str, ValueKind]:
    import polars as pl

    return {
        name: ValueKind.TEXT if kind == pl.String else ValueKind.NUMBER
        for name, kind in schema.items()
        if name != "item_id"
    }
