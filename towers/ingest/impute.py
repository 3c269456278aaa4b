"""Missing attributes: "unknown" for categories, the median for numbers, "" for texts; and how many of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from towers.schema.errors import UncleanRowError

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Kinds:
    """The columns to fill, by kind."""

    categorical: Sequence[str] = ()
    numeric: Sequence[str] = ()
    text: Sequence[str] = ()


def impute(source: str, frame: pl.DataFrame, kinds: Kinds, *, enabled: bool) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fill the missing attributes of a table.

    Args:
        source: the table's name, for messages.
        frame: the cleaned rows; the median is theirs. A column without any number gets 0.
        kinds: its attribute columns.
        enabled: off, a missing attribute is an error.

    Returns:
        The table without nulls in those columns, and the number of filled cells by column.

    Raises:
        UncleanRowError: imputation is off and an attribute is missing.
    """
    columns = [*kinds.categorical, *kinds.numeric, *kinds.text]
    missing = {name: frame[name].null_count() for name in columns}
    if not enabled and any(missing.values()):
        where = ", ".join(f"{name!r} in {count} rows" for name, count in missing.items() if count)
        raise UncleanRowError(
            f"{source}: missing values in column {where}; fill them, or switch on [cleaning.imputation]"
        )
    filled = frame.with_columns(
        *(pl.col(name).fill_null(UNKNOWN) for name in kinds.categorical),
        *(pl.col(name).fill_null(pl.col(name).median()).fill_null(0.0).cast(pl.Float32) for name in kinds.numeric),
        *(pl.col(name).fill_null("") for name in kinds.text),
    )
    return filled, missing
