"""A check finds broken rows; `run_checks` takes them out of a table, each with the first reason that fits.

Conservation, asserted here and tested with hypothesis: rows read = kept + quarantined + excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import polars as pl

from towers.ingest.tables import FILE, ROW, SourceTable
from towers.schema.errors import UncleanRowError

QUARANTINE_SCHEMA = {
    "source": pl.String,  # events, items or users
    "file": pl.String,
    "row": pl.Int64,  # in that file, from 0, without the header
    "rule": pl.String,
    "column": pl.String,  # the shop's name of it; several are joined by " + "
    "value": pl.String,  # null when the cell is empty
    "reason": pl.String,
}


class Action(Enum):
    """What becomes of a broken row."""

    QUARANTINE = auto()
    EXCLUDE = auto()  # left out on purpose: counted, but neither dirt nor quarantined
    STOP = auto()  # the rule is off and no dataset can hold the row: the run fails


@dataclass(frozen=True)
class Check:
    """One look of a rule at a table.

    `broken` (Boolean, null means no) sees the rows that earlier checks left, so it may aggregate over them;
    `value` and `reason` (String) see only the broken rows.
    """

    rule: str
    column: str
    broken: pl.Expr
    value: pl.Expr
    reason: pl.Expr
    action: Action = Action.QUARANTINE


@dataclass(frozen=True)
class Cleaned:
    """A table after its checks."""

    table: SourceTable
    kept: pl.DataFrame
    quarantine: pl.DataFrame  # QUARANTINE_SCHEMA
    excluded: pl.DataFrame  # the excluded rows, as they were read

    @property
    def rows_in(self) -> int:
        """Rows read."""
        return self.table.frame.height

    @property
    def quarantined_by_rule(self) -> dict[str, int]:
        """Rows by the rule that took them, most first."""
        counts = self.quarantine.group_by("rule").len().sort(["len", "rule"], descending=[True, False])
        return dict(counts.iter_rows())

    @property
    def reject_ratio(self) -> float:
        """Share of quarantined rows among those that were not excluded on purpose."""
        candidates = self.rows_in - self.excluded.height
        return self.quarantine.height / candidates if candidates else 0.0


def run_checks(table: SourceTable, checks: Sequence[Check]) -> Cleaned:
    """Apply the checks in order.

    Raises:
        UncleanRowError: a check with Action.STOP found a row.
    """
    frame = table.frame
    quarantined: list[pl.DataFrame] = []
    excluded: list[pl.DataFrame] = [frame.clear()]
    for check in checks:
        broken = frame.select(check.broken.fill_null(False).alias("broken")).to_series()
        if not broken.any():
            continue
        rejected = frame.filter(broken)
        if check.action is Action.STOP:
            raise UncleanRowError(_unclean(table, check, rejected.head(1)))
        if check.action is Action.EXCLUDE:
            excluded.append(rejected)
        else:
            quarantined.append(_quarantine(table, check, rejected))
        frame = frame.filter(~broken)
    cleaned = Cleaned(
        table=table,
        kept=frame,
        quarantine=pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *quarantined]),
        excluded=pl.concat(excluded),
    )
    assert cleaned.rows_in == cleaned.kept.height + cleaned.quarantine.height + cleaned.excluded.height
    return cleaned


def _quarantine(table: SourceTable, check: Check, rejected: pl.DataFrame) -> pl.DataFrame:
    files = pl.Series([str(file) for file in table.files], dtype=pl.String)
    return rejected.select(
        source=pl.lit(table.source, dtype=pl.String),
        file=files.gather(rejected[FILE]),
        row=pl.col(ROW),
        rule=pl.lit(check.rule, dtype=pl.String),
        column=pl.lit(check.column, dtype=pl.String),
        value=check.value.cast(pl.String),
        reason=check.reason.cast(pl.String),
    )


def _unclean(table: SourceTable, check: Check, first: pl.DataFrame) -> str:
    row = _quarantine(table, check, first).row(0, named=True)
    return (
        f"{row['file']}, row {row['row']}, column {row['column']!r}, value {row['value']!r}: {row['reason']}; a "
        f"dataset cannot hold such a row: correct it, or switch on [cleaning.{check.rule}]"
    )
