"""`python -m index rebuild CONFIG`: from a trained model and a catalogue to a published generation.

The catalogue is the shop's dataset as it stands, which may be newer than the model: items that the model never saw
are embedded by their attributes, users that it never saw are served as unknown with their history.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from pydantic import ValidationError
from rich.console import Console
from safetensors.numpy import save_file

from index.build import BuildReport, IndexBuildError, build_searcher
from index.commands.location import KeyOption, errors_in_one_line, fail, find_key
from index.config import IndexConfig, spare_row_count
from index.filters.attributes import ATTRIBUTES_FILE, VOCABULARIES_FILE, AttributeTable
from index.generation import GenerationWriter, set_current
from index.generation.positions import POSITIONS_FILE, LivePositions
from index.item_ids import ItemIds
from index.searcher import SearchError
from index.storage import index_file_name, save_searcher

if TYPE_CHECKING:
    import polars as pl

    from towers.model import TrainedModel
    from towers.schema import Dataset, ShopConfig
    from towers.schema.dataset import AttributeNames
    from towers.snapshot import Snapshot

TUNING_USERS_MAX = 500
GOLDEN_USERS = 12


def rebuild(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file.")],
    activate: Annotated[bool, typer.Option(help="Point CURRENT at the new generation.")] = True,
    key_file: KeyOption = None,
) -> None:
    """Embed the catalogue, build the index, measure its recall, write a generation and publish it."""
    from server.fitness import GenerationUnfit
    from server.golden import GoldenMismatch
    from towers.model import ModelInvalid, read_model
    from towers.schema import DataError, load_dataset, read_shop_config

    console = Console(soft_wrap=True)
    with errors_in_one_line():
        try:
            shop = read_shop_config(config)
            dataset, model = load_dataset(shop.dataset_dir), read_model(shop.run_dir / "model")
            published = publish(shop, dataset, model, find_key(key_file), console.print)
            if activate:
                set_current(shop.generations_dir, published.generation_id)
        except (DataError, ModelInvalid, GenerationUnfit, GoldenMismatch, IndexBuildError, SearchError) as error:
            fail(str(error))
    state = "current" if activate else "published, not activated"
    console.print(f"generation {published.generation_id} ({state}) in {shop.generations_dir}")


@dataclass(frozen=True)
class Published:
    """What a rebuild made."""

    generation_id: str
    recall: float
    seconds: float


def publish(
    shop: ShopConfig,
    dataset: Dataset,
    model: TrainedModel,
    key: bytes | None,
    say: Callable[[str], None],
    positions: LivePositions | None = None,
    until_s: int | None = None,
    also_retrievable: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
) -> Published:
    """Builds and publishes; CURRENT stays as it is.

    `positions`: what of the store's streams the dataset holds. `until_s`: up to when its events are read; default the
    end of training, or just after the last event. `also_retrievable`: (items,) what may be recommended
    whoever bought it.

    Raises ConfigError, DatasetError, SearchError, IndexBuildError, GenerationUnfit, GoldenMismatch, GenerationError,
    OSError.
    """
    from server.fitness import CATALOGUE_FILE, ITEM_IDS_FILE, USER_IDS_FILE
    from server.golden import GOLDEN_FILE, write_golden
    from server.model import open_serving_model
    from towers.schema import ConfigError, DatasetError
    from towers.snapshot import ITEMS_FILE, SOURCES_FILE, USERS_FILE

    started = time.monotonic()
    try:
        index_config = IndexConfig.model_validate(shop.index)
    except ValidationError as error:
        raise ConfigError(f"[index]: {error}") from error
    _check_columns(dataset, model)
    end = shop.training.train_end
    if until_s is None:
        until_s = int(end.timestamp()) if end is not None else dataset.meta.last_time_s + 1
    snapshot, order, queries = _snapshot(dataset, model, until_s, also_retrievable)
    if snapshot.retrievable_count == 0:
        raise DatasetError(
            f"no item may be recommended: none was bought by training.item_users_min = "
            f"{model.settings.training.item_users_min} users before training.train_end; lower one or move the other"
        )
    say(f"{len(order):,} items embedded, {snapshot.retrievable_count:,} of them retrievable")
    searcher, report = build_searcher(snapshot.items.vectors[: snapshot.retrievable_count], index_config, queries)
    say(f"index {report.kind}: recall@{report.recall_k} {report.recall:.4f}")
    with GenerationWriter(shop.generations_dir, key) as writer:
        for name, data in model.files().items():
            writer.add_bytes(name, data)
        spare = spare_row_count(index_config, snapshot.item_count)
        save_file(snapshot.item_arrays(spare), writer.path(ITEMS_FILE))
        save_file(snapshot.user_arrays(), writer.path(USERS_FILE))
        if snapshot.items.sources:
            save_file(snapshot.source_arrays(), writer.path(SOURCES_FILE))
        item_ids = dataset.items["item_id"].gather(order).to_list()
        writer.add_bytes(ITEM_IDS_FILE, ItemIds.from_ids(item_ids).to_bytes())
        writer.add_bytes(USER_IDS_FILE, ItemIds.from_ids(dataset.users["user_id"].to_list()).to_bytes())
        live = positions or LivePositions(files_until_s=until_s)
        writer.add_bytes(POSITIONS_FILE, live.model_dump_json().encode())
        dataset.items[order].write_parquet(writer.path(CATALOGUE_FILE))
        table = attribute_table(dataset.items[order], dataset.meta.item_attributes, spare)
        table.save(writer.path(ATTRIBUTES_FILE), writer.path(VOCABULARIES_FILE))
        save_searcher(searcher, writer.path(index_file_name(searcher)))
        golden_path = writer.path(GOLDEN_FILE)
        serving = open_serving_model(Unpublished(golden_path.parent))
        users = spread(np.flatnonzero(np.diff(snapshot.histories.offsets) > 0), GOLDEN_USERS)
        user_ids = dataset.users["user_id"].gather(users).to_list()
        seeds = item_ids[: snapshot.retrievable_count]
        golden_path.write_bytes(write_golden(serving, user_ids, seeds, float(until_s)))
        metadata = _metadata(model, snapshot, report, until_s)
        generation_id = writer.publish({**metadata, "index_config": index_config.model_dump(mode="json")})
    return Published(generation_id, report.recall, time.monotonic() - started)


def attribute_table(items: pl.DataFrame, names: AttributeNames, spare_count: int = 0) -> AttributeTable:
    """What filters may ask of the items, row by row, with spare rows behind them."""
    return AttributeTable.of_columns(
        {name: items[name].to_list() for name in names.categorical},
        {name: items[name].to_numpy() for name in names.numeric},
        names.text,
        row_count=len(items),
        spare_count=spare_count,
    )


def _check_columns(dataset: Dataset, model: TrainedModel) -> None:
    """The dataset may have newer rows than the model, not other columns. Raises DatasetError."""
    from towers.schema import DatasetError

    meta, encoders = dataset.meta, model.encoders
    known = {
        "item attributes": (dataset.items.columns, [*encoders.items.categorical, *encoders.items.numeric]),
        "item texts": (dataset.items.columns, encoders.items.text),
        "user attributes": (dataset.users.columns, encoders.user_attributes),
        "context columns": (meta.context_columns, encoders.contexts),
    }
    for what, (found, wanted) in known.items():
        if missing := sorted(set(wanted) - set(found)):
            raise DatasetError(f"the dataset has no {what} {missing}, which the model reads; train again")
    for what, here, there in (
        ("event_types", meta.event_types, encoders.event_types),
        ("target_event_types", meta.target_event_types, encoders.target_event_types),
    ):
        if tuple(here) != there:  # an event's code is its place among them
            raise DatasetError(f"the dataset has the {what} {list(here)}, the model {list(there)}; train again")


def _snapshot(
    dataset: Dataset,
    model: TrainedModel,
    until_s: int,
    also_retrievable: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
) -> tuple[Snapshot, np.ndarray[Any, np.dtype[np.int32]], np.ndarray[Any, np.dtype[np.float32]]]:
    """The snapshot, the dataset row of each of its rows, and user vectors (q, D) to tune and measure the index with."""
    import torch

    from towers.item_table import item_table
    from towers.learning_data import encode
    from towers.models.item_tower import ItemTensors
    from towers.recommender import UserEmbedder
    from towers.snapshot import take_snapshot
    from towers.sources.registry import sources_at
    from towers.training.cuts import last_context, shoppers_at, users_before
    from towers.training.tower_task import embed_items

    data = encode(dataset, model.encoders, model.settings, model.towers_until_s)
    vectors = embed_items(model.item_tower, ItemTensors.of(data.items, torch.device("cpu"))).numpy()
    sources = sources_at(data, model.settings, until_s, model.towers_until_s)
    known_s = model.settings.training.learned_until_s(until_s, model.towers_until_s)
    table = item_table(data, vectors, model.settings, known_s, sources)
    if also_retrievable is not None:
        table = replace(table, retrievable=table.retrievable | also_retrievable)
    snapshot, order = take_snapshot(data, table, model.ranker, until_s)
    users = spread(users_before(data, until_s), TUNING_USERS_MAX)
    embedder = UserEmbedder(model.user_tower, vectors, model.settings.features.sequence_events_max)
    context = last_context(data, users, until_s)
    return snapshot, order, embedder.embed(shoppers_at(data, model.settings, users, until_s, context)).vectors


def spread(rows: np.ndarray[Any, np.dtype[Any]], count_max: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """At most `count_max` of the rows, evenly spread."""
    chosen = np.linspace(0, len(rows) - 1, min(count_max, len(rows))).astype(np.int64)
    return rows[chosen].astype(np.int32)


def _metadata(model: TrainedModel, snapshot: Snapshot, report: BuildReport, until_s: int) -> dict[str, Any]:
    return {
        "as_of_s": until_s,
        "feature_hash": model.feature_hash,
        "item_count": snapshot.item_count,
        "retrievable_count": snapshot.retrievable_count,
        "user_count": snapshot.histories.user_count,
        "event_count": len(snapshot.histories.item_row),
        "dimension": model.settings.towers.dimension,
        "index": asdict(report),
        "metrics": model.metrics,
    }


@dataclass(frozen=True)
class Unpublished:
    """The files of a generation that is being written, as the server's loader reads them."""

    directory: Path
    id: str = "unpublished"

    @property
    def names(self) -> list[str]:
        """What has been written so far."""
        return [path.name for path in self.directory.iterdir()]

    def path(self, name: str) -> Path:
        """Where the file lies."""
        return self.directory / name
