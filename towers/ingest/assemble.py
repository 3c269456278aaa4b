"""From cleaned sources to the dataset's tables: users and items get their rows, events point to them."""

from __future__ import annotations

import polars as pl

from towers.ingest.checks import Cleaned
from towers.ingest.impute import Kinds, impute
from towers.ingest.tables import EVENT_NUMBERS, FILE, ROW, context_column
from towers.schema.config import EventsSection, ItemsSection, UsersSection
from towers.schema.dataset import EVENT_DTYPES, NO_SESSION


def entity_rows(
    key: str,
    config: ItemsSection | UsersSection | None,
    cleaned: Cleaned | None,
    events: pl.DataFrame,
    *,
    impute_on: bool,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Make the items or users table: what the shop declares and what occurs in events, sorted by id, nothing missing.

    Args:
        key: "item_id" or "user_id".
        config: its section; None when the shop declares none.
        cleaned: its cleaned source; None likewise.
        events: the kept events, whose ids are added where the source lacks them.
        impute_on: the switch of the imputation rule.

    Returns:
        The table, and the number of imputed cells by attribute.
    """
    source = key.removesuffix("_id") + "s"
    ids = events.select(pl.col(key).unique())
    if cleaned is None or config is None:
        return ids.sort(key), {}
    declared = cleaned.kept.select(key, *config.attributes)
    added = ids.join(declared, on=key, how="anti")
    rows = pl.concat([declared, added], how="diagonal").sort(key)
    kinds = Kinds(config.categorical, config.numeric, config.text)
    return impute(source, rows, kinds, enabled=impute_on)


def event_rows(
    config: EventsSection, events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, *, impute_on: bool
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Make the events table: row numbers instead of ids, sorted, with the dataset's types.

    Returns:
        The table, and the number of imputed cells by context column.
    """
    of_items = items.select("item_id", item_row=pl.int_range(pl.len(), dtype=pl.Int32))
    of_users = users.select("user_id", user_row=pl.int_range(pl.len(), dtype=pl.Int32))
    session = (
        pl.col("session_id").rank("dense").cast(pl.Int64) - 1
    )  # codes in the order of the ids: the same every time
    numbered = (
        events.lazy()
        .join(of_items.lazy(), on="item_id", how="left")
        .join(of_users.lazy(), on="user_id", how="left")
        .select(
            "user_row",
            "item_row",
            pl.col("event_type").cast(pl.Enum(config.event_types)).to_physical().cast(pl.UInt8),
            "time_s",
            session.fill_null(NO_SESSION).alias("session"),
            *(pl.col(name).fill_null(float("nan")) for name in EVENT_NUMBERS),
            *(pl.col(context_column(name)).alias(name) for name in config.context),
            FILE,
            ROW,
        )
        .sort("user_row", "time_s", FILE, ROW)
        .drop(FILE, ROW)
        .collect()
    )
    assert numbered.height == events.height
    assert numbered.schema == pl.Schema(dict(EVENT_DTYPES) | dict.fromkeys(config.context, pl.String))
    return impute("events", numbered, Kinds(categorical=config.context), enabled=impute_on)


def default_event_types(config: EventsSection, events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Give events without a type the default one; also returns how many cells of a declared column that filled."""
    if config.default_event_type is None:
        return events, 0
    empty = events["event_type"].null_count() if config.columns.event_type is not None else 0
    return events.with_columns(pl.col("event_type").fill_null(config.default_event_type)), empty
