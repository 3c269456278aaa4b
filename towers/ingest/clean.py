"""Read the three sources and clean them.

The catalogue comes first, because the events are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from towers.ingest.assemble import default_event_types
from towers.ingest.checks import Cleaned, run_checks
from towers.ingest.rules import event_checks, item_checks, user_checks
from towers.ingest.tables import SourceTable, read_events, read_items, read_users
from towers.schema.config import ShopConfig
from towers.schema.errors import NothingLeftError, RejectRatioError

REJECTED_FILE = "rejected.parquet"  # in the work directory: the quarantine of a run that failed

_RULES_SHOWN = 3


@dataclass(frozen=True)
class CleanedShop:
    """The three sources after their checks."""

    events: Cleaned
    items: Cleaned
    users: Cleaned | None
    event_types_imputed: int

    @property
    def sources(self) -> list[Cleaned]:
        """Those that the shop has."""
        return [source for source in (self.events, self.items, self.users) if source is not None]

    @property
    def quarantine(self) -> pl.DataFrame:
        """The rejected rows of all sources."""
        return pl.concat([source.quarantine for source in self.sources])


def clean_shop(config: ShopConfig, on_stage: Callable[[str], None]) -> CleanedShop:
    """Read and clean a shop's sources.

    Args:
        config: the shop.
        on_stage: called as each stage begins.

    Raises:
        IngestError: a file cannot be read as the config says, or a row stops the run.
    """
    on_stage("reading items")
    items = _clean_items(config, read_items(config))
    on_stage("reading users")
    users = _clean_users(config, read_users(config))
    on_stage("reading events")
    table = read_events(config)
    on_stage("cleaning")
    events, event_types_imputed = _clean_events(config, table, items)
    return CleanedShop(events=events, items=items, users=users, event_types_imputed=event_types_imputed)


def require_clean_enough(config: ShopConfig, shop: CleanedShop) -> None:
    """Refuse a shop with too much dirt or nothing left.

    Raises:
        RejectRatioError: a source lost more than `reject_ratio_max`; the rejected rows are written to REJECTED_FILE.
        NothingLeftError: no event or no item is left.
    """
    for source in shop.sources:
        name, ratio_max = source.table.source, config.cleaning.reject_ratio_max
        if source.reject_ratio > ratio_max:
            rejected = config.shop.work_dir / REJECTED_FILE
            rejected.parent.mkdir(parents=True, exist_ok=True)
            shop.quarantine.write_parquet(rejected)
            raise RejectRatioError(
                f"{name}: {source.quarantine.height} of {source.rows_in - source.excluded.height} rows rejected "
                f"({source.reject_ratio:.1%}), above reject_ratio_max {ratio_max:.1%}: {_worst_rules(source)}; "
                f"all of them are in {rejected}"
            )
        if source.kept.is_empty() and name != "users":
            files = ", ".join(str(file) for file in source.table.files)
            raise NothingLeftError(
                f"{name}: none of the {source.rows_in} rows of {files} is left: {source.excluded.height} excluded, "
                f"{source.quarantine.height} rejected"
                + (f": {_worst_rules(source)}" if source.quarantine.height else "")
            )


def _clean_items(config: ShopConfig, table: SourceTable) -> Cleaned:
    return run_checks(table, item_checks(config.cleaning, table, config.items.numeric))


def _clean_users(config: ShopConfig, table: SourceTable | None) -> Cleaned | None:
    if table is None or config.users is None:
        return None
    return run_checks(table, user_checks(config.cleaning, table, config.users.numeric))


def _clean_events(config: ShopConfig, table: SourceTable, items: Cleaned) -> tuple[Cleaned, int]:
    frame, imputed = default_event_types(config.events, table.frame)
    known = items.kept["item_id"]
    excluded = items.excluded["item_id"].drop_nulls()
    excluded = excluded.filter(~excluded.is_in(known.implode()))
    checks = event_checks(config.cleaning, table, config.events, known, excluded)
    return run_checks(replace(table, frame=frame), checks), imputed


def _worst_rules(source: Cleaned) -> str:
    shown = []
    for rule, count in list(source.quarantined_by_rule.items())[:_RULES_SHOWN]:
        row = source.quarantine.filter(pl.col("rule") == rule).row(0, named=True)
        shown.append(
            f"{rule} {count} (first: {row['file']}, row {row['row']}, column {row['column']!r}, "
            f"value {row['value']!r}: {row['reason']})"
        )
    return "; ".join(shown)
