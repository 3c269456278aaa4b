"""The cleaning rules: each function turns one rule of the config into checks.

The order of the lists at the end is the order in which rows are looked at: excluded on purpose first (their other
faults do not matter), then what concerns one cell, then what compares a row with the others.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from towers.ingest.checks import Action, Check
from towers.ingest.tables import EVENT_NUMBERS, ROW_HASHES, SourceTable, wrong_column
from towers.schema.cleaning import (
    AutomatedBuyersRule,
    BadTimestampsRule,
    Cleaning,
    DuplicatesRule,
    ExcludedItemsRule,
    Rule,
)
from towers.schema.config import EventsSection

_MAD_TO_STANDARD_DEVIATION = 1.4826  # Iglewicz & Hoaglin (1993), for a normal distribution
_MEAN_AD_TO_STANDARD_DEVIATION = 1.2533  # the same source, where the MAD is 0
_DAY_S = 86_400


def null_keys(rule: Rule, table: SourceTable, keys: tuple[str, ...]) -> list[Check]:
    """Rows without a key."""
    return [
        Check(
            rule="null_keys",
            column=table.shop_names[key],
            broken=pl.col(key).is_null(),
            value=pl.lit(None),
            reason=pl.lit(f"no {key}"),
            action=_structural(rule),
        )
        for key in keys
    ]


def wrong_type(rule: Rule, table: SourceTable, names: tuple[str, ...]) -> list[Check]:
    """Cells that are not the number that their column holds."""
    return [
        Check(
            rule="wrong_type",
            column=table.shop_names[name],
            broken=pl.col(wrong_column(name)).is_not_null(),
            value=pl.col(wrong_column(name)),
            reason=pl.lit("not a number that fits 32 bits"),
            action=_structural(rule),
        )
        for name in names
        if name in table.shop_names
    ]


def bad_timestamps(rule: BadTimestampsRule, table: SourceTable, config: EventsSection) -> list[Check]:
    """Times that are missing, unreadable, in the future or unbelievably old."""
    column = table.shop_names["time_s"]
    now = rule.now or datetime.now(UTC)
    latest_s = now.timestamp() + rule.future_tolerance_s
    shown = pl.from_epoch(pl.col("time_s"), time_unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    readable = f"{config.timestamp_format} (time zone {config.time_zone})"
    checks = [
        Check(
            rule="bad_timestamps",
            column=column,
            broken=pl.col("time_s").is_null(),
            value=pl.col(wrong_column("time_s")),
            reason=pl.when(pl.col(wrong_column("time_s")).is_null())
            .then(pl.lit("no time"))
            .otherwise(pl.lit(f"cannot be read as {readable}")),
            action=_structural(rule),
        )
    ]
    if rule.enabled:
        bounds = (
            (pl.col("time_s") > latest_s, f"in the future: now is {_shown(now)}"),
            (pl.col("time_s") < rule.not_before.timestamp(), f"before {_shown(rule.not_before)}; wrong unit?"),
        )
        checks += [
            Check(rule="bad_timestamps", column=column, broken=broken, value=shown, reason=pl.lit(reason))
            for broken, reason in bounds
        ]
    return checks


def unknown_event_types(rule: Rule, table: SourceTable, config: EventsSection) -> list[Check]:
    """Event types that the config does not declare."""
    return [
        Check(
            rule="unknown_event_types",
            column=table.shop_names.get("event_type", "event_type"),
            broken=pl.col("event_type").is_null() | ~pl.col("event_type").is_in(list(config.event_types)),
            value=pl.col("event_type"),
            reason=pl.lit(f"not among event_types {', '.join(config.event_types)}"),
            action=_structural(rule),
        )
    ]


def duplicate_events(rule: DuplicatesRule) -> list[Check]:
    """Events that are a second copy of a row."""
    return _switched(
        rule,
        Check(
            rule="duplicates",
            column=" + ".join(rule.columns) or "(all columns)",
            broken=~pl.struct(*ROW_HASHES).is_first_distinct(),
            value=pl.lit(None),
            reason=pl.lit("equal to an earlier row in " + (", ".join(rule.columns) or "all columns of the file")),
        ),
    )


def duplicate_ids(rule: Rule, table: SourceTable, key: str) -> list[Check]:
    """Second rows of one item or one user; the first row is kept."""
    return [
        Check(
            rule="duplicates",
            column=table.shop_names[key],
            broken=~pl.col(key).is_first_distinct(),
            value=pl.col(key),
            reason=pl.lit(f"this {key} has an earlier row, which is kept"),
            action=_structural(rule),
        )
    ]


def non_positive_quantity(rule: Rule, table: SourceTable) -> list[Check]:
    """Events with quantity ≤ 0."""
    return _switched(
        rule,
        Check(
            rule="non_positive_quantity",
            column=table.shop_names.get("quantity", "quantity"),
            broken=pl.col("quantity") <= 0,
            value=pl.col("quantity"),
            reason=pl.lit("quantity is not positive"),
        ),
    )


def excluded_attributes(rule: ExcludedItemsRule) -> list[Check]:
    """Items that are left out on purpose."""
    return _switched(
        rule,
        *(
            Check(
                rule="excluded_items",
                column=entry.attribute,
                broken=pl.col(entry.attribute).is_in(list(entry.values)),
                value=pl.col(entry.attribute),
                reason=pl.lit("left out by the config"),
                action=Action.EXCLUDE,
            )
            for entry in rule.where
        ),
    )


def excluded_events(rule: ExcludedItemsRule, table: SourceTable, excluded_ids: pl.Series) -> list[Check]:
    """Events of items that are left out on purpose; `excluded_ids` (String) are those items."""
    return _switched(
        rule,
        Check(
            rule="excluded_items",
            column=table.shop_names["item_id"],
            broken=pl.col("item_id").is_in(excluded_ids.implode()),
            value=pl.col("item_id"),
            reason=pl.lit("its item is left out by the config"),
            action=Action.EXCLUDE,
        ),
    )


def unknown_items(rule: Rule, table: SourceTable, known_ids: pl.Series) -> list[Check]:
    """Events of items that are not in the catalogue; `known_ids` (String) are those that are."""
    return _switched(
        rule,
        Check(
            rule="unknown_items",
            column=table.shop_names["item_id"],
            broken=~pl.col("item_id").is_in(known_ids.implode()),
            value=pl.col("item_id"),
            reason=pl.lit("the catalogue has no such item, or its row is quarantined"),
        ),
    )


def outliers(cleaning: Cleaning, table: SourceTable) -> list[Check]:
    """Quantities and values far from the median of their event type."""
    rule = cleaning.outliers
    return _switched(
        rule,
        *(
            Check(
                rule="outliers",
                column=table.shop_names[name],
                broken=_robust_distance(pl.col(name), "event_type") > rule.threshold,
                value=pl.col(name),
                reason=pl.lit(f"over {rule.threshold:g} robust standard deviations from the median of its event type"),
            )
            for name in ("quantity", "value")
            if name in table.shop_names
        ),
    )


def automated_buyers(rule: AutomatedBuyersRule, table: SourceTable) -> list[Check]:
    """All events of users whose busiest day is beyond a person's."""
    events_a_day = pl.len().over("user_id", pl.col("time_s").floordiv(_DAY_S))
    busiest = events_a_day.max().over("user_id")
    # One number a user, so that users weigh alike however many events they have.
    of_users = pl.when(pl.col("user_id").is_first_distinct()).then(busiest)
    spread = _MAD_TO_STANDARD_DEVIATION * (of_users - of_users.median()).abs().median()
    limit = pl.max_horizontal(pl.lit(float(rule.events_a_day_min)), of_users.median() + rule.threshold * spread)
    return _switched(
        rule,
        Check(
            rule="automated_buyers",
            column=table.shop_names["user_id"],
            broken=busiest > limit,
            value=pl.col("user_id"),
            reason=pl.format("{} events on this user's busiest day", busiest),
        ),
    )


def item_checks(cleaning: Cleaning, table: SourceTable, numeric: tuple[str, ...]) -> list[Check]:
    """All checks of the catalogue, in order."""
    return [
        *excluded_attributes(cleaning.excluded_items),
        *null_keys(cleaning.null_keys, table, ("item_id",)),
        *wrong_type(cleaning.wrong_type, table, numeric),
        *duplicate_ids(cleaning.duplicates, table, "item_id"),
    ]


def user_checks(cleaning: Cleaning, table: SourceTable, numeric: tuple[str, ...]) -> list[Check]:
    """All checks of the users, in order."""
    return [
        *null_keys(cleaning.null_keys, table, ("user_id",)),
        *wrong_type(cleaning.wrong_type, table, numeric),
        *duplicate_ids(cleaning.duplicates, table, "user_id"),
    ]


def event_checks(
    cleaning: Cleaning, table: SourceTable, config: EventsSection, known_ids: pl.Series, excluded_ids: pl.Series
) -> list[Check]:
    """All checks of the events, in order."""
    return [
        *excluded_events(cleaning.excluded_items, table, excluded_ids),
        *null_keys(cleaning.null_keys, table, ("user_id", "item_id")),
        *wrong_type(cleaning.wrong_type, table, EVENT_NUMBERS),
        *bad_timestamps(cleaning.bad_timestamps, table, config),
        *unknown_event_types(cleaning.unknown_event_types, table, config),
        *duplicate_events(cleaning.duplicates),
        *non_positive_quantity(cleaning.non_positive_quantity, table),
        *unknown_items(cleaning.unknown_items, table, known_ids),
        *outliers(cleaning, table),
        *automated_buyers(cleaning.automated_buyers, table),
    ]


def _robust_distance(column: pl.Expr, group: str) -> pl.Expr:
    off = (column - column.median().over(group)).abs()
    mad = off.median().over(group)
    mean_ad = off.mean().over(group)
    scale = pl.when(mad > 0).then(mad * _MAD_TO_STANDARD_DEVIATION).otherwise(mean_ad * _MEAN_AD_TO_STANDARD_DEVIATION)
    return pl.when(off > 0).then(off / scale).otherwise(0.0)


def _structural(rule: Rule) -> Action:
    return Action.QUARANTINE if rule.enabled else Action.STOP


def _switched(rule: Rule, *checks: Check) -> list[Check]:
    return list(checks) if rule.enabled else []


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
