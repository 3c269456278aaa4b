"""Ingest: read and clean the three sources, impute, number the rows, write the dataset."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from towers.ingest.assemble import entity_rows, event_rows
from towers.ingest.checks import Cleaned
from towers.ingest.clean import REJECTED_FILE, CleanedShop, clean_shop, require_clean_enough
from towers.ingest.write import replaced_directory
from towers.schema.config import ItemsSection, ShopConfig, UsersSection
from towers.schema.dataset import (
    EVENTS_FILE,
    FORMAT_VERSION,
    ITEMS_FILE,
    META_FILE,
    QUARANTINE_FILE,
    USERS_FILE,
    AttributeNames,
    DatasetCounts,
    DatasetMeta,
    SourceCounts,
)

STAGES = ("reading items", "reading users", "reading events", "cleaning", "numbering", "writing")


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did."""

    dataset_dir: Path
    meta: DatasetMeta
    seconds: float


@dataclass(frozen=True)
class _Tables:
    items: pl.DataFrame
    users: pl.DataFrame
    events: pl.DataFrame
    imputed: dict[str, int]


def ingest_shop(config: ShopConfig, on_stage: Callable[[str], None] = lambda _: None) -> IngestReport:
    """Make the dataset of a shop and write it to `config.dataset_dir`.

    Args:
        config: the shop.
        on_stage: called with each of STAGES as it begins.

    Raises:
        IngestError: the files cannot become a dataset; a dataset from before stays as it was.
    """
    start_s = time.perf_counter()
    shop = clean_shop(config, on_stage)
    require_clean_enough(config, shop)
    on_stage("numbering")
    tables = _tables(config, shop)
    meta = _meta(config, shop, tables)
    on_stage("writing")
    with replaced_directory(config.dataset_dir) as directory:
        tables.items.write_parquet(directory / ITEMS_FILE)
        tables.users.write_parquet(directory / USERS_FILE)
        tables.events.write_parquet(directory / EVENTS_FILE)
        shop.quarantine.write_parquet(directory / QUARANTINE_FILE)
        (directory / META_FILE).write_text(meta.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (config.shop.work_dir / REJECTED_FILE).unlink(missing_ok=True)
    return IngestReport(dataset_dir=config.dataset_dir, meta=meta, seconds=time.perf_counter() - start_s)


def _tables(config: ShopConfig, shop: CleanedShop) -> _Tables:
    on = config.cleaning.imputation.enabled
    kept = shop.events.kept
    items, items_imputed = entity_rows("item_id", config.items, shop.items, kept, impute_on=on)
    users, users_imputed = entity_rows("user_id", config.users, shop.users, kept, impute_on=on)
    events, context_imputed = event_rows(config.events, kept, items, users, impute_on=on)
    imputed = {"events.event_type": shop.event_types_imputed}
    for source, counts in (("events", context_imputed), ("items", items_imputed), ("users", users_imputed)):
        imputed |= {f"{source}.{column}": count for column, count in counts.items()}
    return _Tables(items=items, users=users, events=events, imputed=imputed)


def _meta(config: ShopConfig, shop: CleanedShop, tables: _Tables) -> DatasetMeta:
    times = tables.events["time_s"].to_numpy()
    return DatasetMeta(
        format_version=FORMAT_VERSION,
        shop=config.shop.name,
        event_types=config.events.event_types,
        target_event_types=config.events.target_event_types,
        item_attributes=_attribute_names(config.items),
        user_attributes=_attribute_names(config.users),
        context_columns=config.events.context,
        counts=DatasetCounts(rows=len(times), items=tables.items.height, users=tables.users.height),
        sources={source.table.source: _counts(source) for source in shop.sources},
        imputed=tables.imputed,
        first_time_s=int(times.min()),
        last_time_s=int(times.max()),
    )


def _counts(source: Cleaned) -> SourceCounts:
    return SourceCounts(
        input=source.rows_in,
        kept=source.kept.height,
        quarantined=source.quarantine.height,
        excluded=source.excluded.height,
        quarantined_by_rule=source.quarantined_by_rule,
    )


def _attribute_names(config: ItemsSection | UsersSection | None) -> AttributeNames:
    if config is None:
        return AttributeNames(categorical=(), numeric=(), text=())
    return AttributeNames(categorical=config.categorical, numeric=config.numeric, text=config.text)
