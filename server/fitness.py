"""Whether the parts of a generation fit each other: every width, count and code that one part promises to another.

Checksums say that a file is the one that was published; this says that it was published with the others. What is of
the same shape and yet another model's, the golden queries find.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from index.filters.attributes import VOCABULARIES_FILE
from server.generation_files import CATALOGUE_FILE as CATALOGUE_FILE
from server.generation_files import ITEM_IDS_FILE as ITEM_IDS_FILE
from server.generation_files import USER_IDS_FILE as USER_IDS_FILE
from server.serving_model import ServingModel
from towers.model import RANKER_FILE, TOWERS_FILE
from towers.snapshot import ITEMS_FILE, SOURCES_FILE, USERS_FILE

CATALOGUE_ROWS_COMPARED = 1_000
"""Items of the catalogue whose ids are compared with ITEM_IDS_FILE: another order is found by a few, too."""


class GenerationUnfit(ValueError):
    """The generation is whole, but its parts do not fit each other or this server; the message names the file."""


def check_fit(serving: ServingModel, index_name: str) -> None:
    """Compares the parts; `index_name` is the searcher's file. Raises GenerationUnfit."""
    found_sources, wanted_sources = tuple(serving.snapshot.items.sources), serving.model.settings.candidates.further
    if found_sources != wanted_sources:
        raise GenerationUnfit(
            f"{serving.generation_id}: {SOURCES_FILE} holds the sources {list(found_sources)}; the model reads "
            f"{list(wanted_sources)}"
        )
    for what, found, expected in _facts(serving, index_name):
        if found != expected:
            raise GenerationUnfit(
                f"{serving.generation_id}: {what} is {found}; the rest of the generation says {expected}"
            )
    for name, values, count in _codes(serving):
        if len(values) and not 0 <= values.min() <= values.max() < count:
            raise GenerationUnfit(
                f"{serving.generation_id}: {name} of {USERS_FILE} lies in {values.min()} … {values.max()}; the model "
                f"knows 0 … {count - 1}"
            )

    for file, name, values in _numbers(serving):
        if not np.isfinite(values).all():
            raise GenerationUnfit(f"{serving.generation_id}: {name} of {file} holds what is no number")


def check_catalogue(serving: ServingModel, path: Path) -> None:
    """The catalogue has the generation's items, row by row. Raises GenerationUnfit."""
    try:
        ids = pl.read_parquet(path, columns=["item_id"])["item_id"]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise GenerationUnfit(f"{serving.generation_id}: {path.name} cannot be read: {error}") from error
    item_count = len(serving.item_ids)
    if len(ids) != item_count:
        raise GenerationUnfit(
            f"{serving.generation_id}: {path.name} has {len(ids)} items, {ITEM_IDS_FILE} {item_count}"
        )
    rows = np.linspace(0, item_count - 1, min(item_count, CATALOGUE_ROWS_COMPARED)).astype(np.int64)
    for row, found, expected in zip(rows, ids.gather(rows), serving.item_ids.ids(rows), strict=True):
        if found != expected:
            raise GenerationUnfit(
                f"{serving.generation_id}: row {row} of {path.name} is item {found!r}, in {ITEM_IDS_FILE} {expected!r}"
            )


def _facts(serving: ServingModel, index_name: str) -> Iterator[tuple[str, int, int]]:
    """What is compared, what it is, what the rest says."""
    model, snapshot = serving.model, serving.snapshot
    dimension, hidden = model.settings.towers.dimension, model.settings.ranker.hidden[0]
    yield f"dimension of {index_name}", serving.searcher.dimension, dimension
    yield f"item count of {index_name}", serving.searcher.item_count, snapshot.retrievable_count
    yield f"dimension of vectors in {ITEMS_FILE}", snapshot.items.vectors.shape[1], dimension
    yield f"width of item_part in {ITEMS_FILE}", snapshot.item_part.shape[1], hidden
    yield f"id count of {ITEM_IDS_FILE}", len(serving.item_ids), snapshot.item_count
    yield f"id count of {USER_IDS_FILE}", len(serving.user_ids), snapshot.histories.user_count
    if serving.attributes is not None:
        yield f"row count of {VOCABULARIES_FILE}", serving.attributes.row_count, len(snapshot.items.vectors)
    attribute_count = len(model.encoders.user_attributes)
    yield f"width of attribute in {USERS_FILE}", snapshot.users.attribute.shape[1], attribute_count


def _codes(serving: ServingModel) -> Iterator[tuple[str, NDArray[Any], int]]:
    """Every column of codes, and how many codes the model has for it."""
    snapshot, encoders = serving.snapshot, serving.model.encoders
    yield "event_type", snapshot.histories.event_type, len(encoders.event_types)
    yield "bucket", snapshot.users.bucket, serving.model.settings.features.user_id_buckets + 1
    for column, (name, codes) in enumerate(encoders.user_attributes.items()):
        yield f"attribute {name!r}", snapshot.users.attribute[:, column], len(codes)


def _numbers(serving: ServingModel) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """What scores are computed from, file by file: a training that diverged leaves NaN."""
    model, snapshot = serving.model, serving.snapshot
    for file, module in ((TOWERS_FILE, model.user_tower), (RANKER_FILE, model.ranker)):
        for name, tensor in module.state_dict().items():
            yield file, name, tensor.numpy()
    yield ITEMS_FILE, "vectors", snapshot.items.vectors
    yield ITEMS_FILE, "item_part", snapshot.item_part
