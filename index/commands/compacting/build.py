"""A generation and the changes since it was built, as one new generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import save_file

from index.build import build_searcher
from index.commands.compacting.changes import Changes
from index.commands.rebuild import GOLDEN_USERS, TUNING_USERS_MAX, Unpublished, attribute_table, spread
from index.config import IndexConfig, spare_row_count
from index.filters.attributes import ATTRIBUTES_FILE, VOCABULARIES_FILE, AttributeKind
from index.generation import Generation, GenerationWriter
from index.generation.positions import POSITIONS_FILE, LivePositions
from index.item_ids import ItemIds
from index.storage import index_file_name, save_searcher
from server.catalogue.document import ItemDocument, Value, position_text
from server.catalogue.item_embedder import UNKNOWN_CATEGORY, UNKNOWN_TEXT, ItemEmbedder
from server.catalogue.live_ids import LiveItemIds
from server.catalogue.live_items import LiveItems, LiveTables
from server.fitness import CATALOGUE_FILE, ITEM_IDS_FILE, USER_IDS_FILE
from server.golden import GOLDEN_FILE, write_golden
from server.model import open_serving_model
from server.serving_model import ServingModel
from towers.candidates import ItemTable
from towers.features.item_statistics import STATISTIC_NAMES
from towers.model import MODEL_FILE, RANKER_FILE, TOWERS_FILE
from towers.recommender import Shoppers
from towers.schema.dataset import AttributeNames
from towers.snapshot import ITEMS_FILE, SOURCES_FILE, USERS_FILE, Snapshot

_OFFERED_AT_ONCE = 1_000


def write_compacted(
    root: Path,
    key: bytes | None,
    generation: Generation,
    serving: ServingModel,
    changes: Changes,
    say: Callable[[str], None],
) -> str:
    """Publishes the generation and its id; CURRENT stays as it is.

    Raises GenerationError, GenerationUnfit, GoldenMismatch, SearchError, OSError.
    """
    metadata = dict(generation.manifest.metadata)
    as_of_s = int(_number(metadata, "as_of_s"))
    config = _index_config(metadata)
    snapshot, item_ids = _with_changes(serving, changes)
    say(f"{snapshot.item_count:,} items, {snapshot.retrievable_count:,} of them retrievable")
    faiss.omp_set_num_threads(1)
    vectors = np.ascontiguousarray(snapshot.items.vectors[: snapshot.retrievable_count])
    searcher, report = build_searcher(vectors, config, _user_vectors(serving, as_of_s))
    say(f"index {report.kind}: recall@{report.recall_k} {report.recall:.4f}")
    with GenerationWriter(root, key) as writer:
        for name in (MODEL_FILE, TOWERS_FILE, RANKER_FILE, USER_IDS_FILE):
            writer.add_file(name, generation.path(name))
        save_file(snapshot.item_arrays(spare_row_count(config, snapshot.item_count)), writer.path(ITEMS_FILE))
        save_file(snapshot.user_arrays(), writer.path(USERS_FILE))
        if snapshot.items.sources:
            save_file(snapshot.source_arrays(), writer.path(SOURCES_FILE))
        writer.add_bytes(ITEM_IDS_FILE, ItemIds.from_ids(item_ids).to_bytes())
        catalogue = catalogue_with_changes(generation.path(CATALOGUE_FILE), item_ids, changes.documents, serving)
        catalogue.write_parquet(writer.path(CATALOGUE_FILE))
        table = attribute_table(catalogue, _names(serving, catalogue), spare_row_count(config, snapshot.item_count))
        table.save(writer.path(ATTRIBUTES_FILE), writer.path(VOCABULARIES_FILE))
        writer.add_bytes(POSITIONS_FILE, _positions(generation, changes, as_of_s).model_dump_json().encode())
        save_searcher(searcher, writer.path(index_file_name(searcher)))
        golden_path = writer.path(GOLDEN_FILE)
        written = open_serving_model(Unpublished(golden_path.parent))
        users = serving.user_ids.ids(_users_with_history(serving, GOLDEN_USERS))
        golden_path.write_bytes(write_golden(written, users, item_ids[: snapshot.retrievable_count], float(as_of_s)))
        return writer.publish(
            {
                **metadata,
                "item_count": snapshot.item_count,
                "retrievable_count": snapshot.retrievable_count,
                "index": asdict(report),
                "index_config": config.model_dump(mode="json"),
                "compacted_from": generation.id,
            }
        )


def bought_enough(serving: ServingModel) -> Callable[[str], bool]:
    """Whether the generation would recommend an item without being told to: as many bought it as training asks for."""
    buyers = np.rint(np.expm1(serving.snapshot.items.statistics[:, STATISTIC_NAMES.index("log_buyers")]))
    users_min = serving.model.settings.training.item_users_min

    def is_bought_enough(item_id: str) -> bool:
        [row] = serving.item_ids.rows([item_id]).tolist()
        return users_min == 0 or bool(row >= 0 and buyers[row] >= users_min)

    return is_bought_enough


def _with_changes(serving: ServingModel, changes: Changes) -> tuple[Snapshot, list[str]]:
    """The snapshot with the changes built in, retrievable rows first, and the id of each of its rows."""
    old, count = serving.snapshot, serving.snapshot.item_count
    ids = LiveItemIds(serving.item_ids.base)
    known = ids.rows(list(changes.documents)) >= 0
    more = sum(
        not is_known and not each.deleted for is_known, each in zip(known, changes.documents.values(), strict=True)
    )
    arrays = {
        name: np.concatenate([array[:count], np.zeros((more, *array.shape[1:]), array.dtype)])
        for name, array in replace(old, spare_row_count=0).item_arrays().items()
        if name not in ("popular", "spare_row_count")
    }
    tables = LiveTables.of(arrays)
    live = LiveItems(tables, ids, old.retrievable_count, ItemEmbedder(serving.model))
    documents = list(changes.documents.items())
    for begin in range(0, len(documents), _OFFERED_AT_ONCE):
        live.offer(documents[begin : begin + _OFFERED_AT_ONCE])
    live.settle()
    order = np.argsort(~tables.retrievable, kind="stable").astype(np.int32)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    popular = old.items.popular[tables.retrievable[old.items.popular]]
    items = ItemTable(
        vectors=tables.vectors[order],
        statistics=tables.statistics[order],
        affinity=tables.affinity[order],
        affinity_counts=old.items.affinity_counts,
        popular=place[popular],
        retrievable=tables.retrievable[order],
        sources={name: source.reordered(order, place) for name, source in old.items.sources.items()},
    )
    histories = replace(old.histories, item_row=place[old.histories.item_row])
    return Snapshot(items, tables.item_part[order], histories, old.users), ids.ids(order)


def catalogue_with_changes(
    path: Path, item_ids: Sequence[str], documents: Mapping[str, ItemDocument], serving: ServingModel
) -> pl.DataFrame:
    """The catalogue's columns of these items, in their order. What is unknown is filled in as ingest does."""
    base = pl.read_parquet(path, glob=False)
    encoder = serving.model.encoders.items
    changed = {item_id: document for item_id, document in documents.items() if not document.deleted}
    columns: dict[str, list[Value | None]] = {"item_id": list(changed)}
    for name, kind in base.schema.items():
        if name == "item_id":
            continue
        fill: Value = UNKNOWN_TEXT if name in encoder.text else UNKNOWN_CATEGORY
        if kind != pl.String:
            fill = encoder.numeric[name][0] if name in encoder.numeric else float("nan")
        columns[name] = [document.attributes.get(name, fill) for document in changed.values()]
    fresh = pl.DataFrame(columns, schema=base.schema)
    kept = base.filter(~pl.col("item_id").is_in(fresh["item_id"].implode()))
    wanted = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
    return wanted.join(pl.concat([kept, fresh]), on="item_id", how="left", maintain_order="left").select(base.columns)


def _names(serving: ServingModel, catalogue: pl.DataFrame) -> AttributeNames:
    """The attributes by kind: as the generation says, or, of one without a table, as the model reads them."""
    if serving.attributes is not None:
        kinds = serving.attributes.kinds
    else:
        texts, numbers = serving.model.encoders.items.text, catalogue.select(pl.selectors.numeric()).columns
        kinds = {
            name: AttributeKind.TEXT
            if name in texts
            else AttributeKind.NUMERIC
            if name in numbers
            else AttributeKind.CATEGORICAL
            for name in catalogue.columns
            if name != "item_id"
        }

    def of(kind: AttributeKind) -> tuple[str, ...]:
        return tuple(name for name in kinds if kinds[name] is kind)

    return AttributeNames(
        categorical=of(AttributeKind.CATEGORICAL), numeric=of(AttributeKind.NUMERIC), text=of(AttributeKind.TEXT)
    )


def _user_vectors(serving: ServingModel, as_of_s: int) -> NDArray[np.float32]:
    """(q, D) vectors of users with a history, to tune and measure the index with."""
    rows = _users_with_history(serving, TUNING_USERS_MAX)
    times = np.full(len(rows), as_of_s, np.int64)
    histories = serving.snapshot.histories.batch(rows, times, serving.model.settings.features.history_events_max, None)
    users = serving.snapshot.users
    context = np.zeros((len(rows), len(serving.contexts)), np.int32)
    shoppers = Shoppers.of(histories, users.bucket[rows], users.attribute[rows], context)
    return serving.recommender.embed(shoppers).vectors


def _users_with_history(serving: ServingModel, count_max: int) -> NDArray[np.int32]:
    return spread(np.flatnonzero(np.diff(serving.snapshot.histories.offsets) > 0), count_max)


def _positions(generation: Generation, changes: Changes, as_of_s: int) -> LivePositions:
    """The generation's own place in the event log, and the catalogue's new one."""
    positions = LivePositions(files_until_s=as_of_s)
    if POSITIONS_FILE in generation.names:
        positions = LivePositions.model_validate_json(generation.path(POSITIONS_FILE).read_bytes())
    return positions.model_copy(update={"catalogue_position": position_text(changes.position)})


def _index_config(metadata: Mapping[str, Any]) -> IndexConfig:
    """The [index] that the generation was built with; the defaults where it does not say."""
    try:
        return IndexConfig.model_validate(metadata.get("index_config", {}))
    except ValidationError:  # of another version
        return IndexConfig()


def _number(metadata: Mapping[str, Any], name: str) -> float:
    value = metadata.get(name)
    return value if isinstance(value, int | float) else 0.0
