"""A dataset: what ingest writes and everything after it reads.

    dataset.json        DatasetMeta: what the columns are, and what the cleaning did
    items.parquet       item_id (str, unique; ascending, or by chance: ingest/plain.py) and the item attributes
    users.parquet       user_id (str, unique, ascending) and the user attributes
    events.parquet      by user_row, then time_s, then the order of the files
    quarantine.parquet  every rejected row with its rule, column, value and reason

An item's row is its row number in items.parquet; so for users. Attributes have no nulls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from towers.schema.errors import DatasetError

FORMAT_VERSION = 1
META_FILE, ITEMS_FILE, USERS_FILE, EVENTS_FILE, QUARANTINE_FILE = (
    "dataset.json",
    "items.parquet",
    "users.parquet",
    "events.parquet",
    "quarantine.parquet",
)

ItemId = NewType("ItemId", str)
UserId = NewType("UserId", str)
ItemRow = NewType("ItemRow", int)
UserRow = NewType("UserRow", int)

NO_SESSION = -1

EVENT_DTYPES: Mapping[str, type[pl.DataType]] = {
    "user_row": pl.Int32,
    "item_row": pl.Int32,
    "event_type": pl.UInt8,
    "time_s": pl.Int64,
    "session": pl.Int64,
    "quantity": pl.Float32,
    "value": pl.Float32,
    "rating": pl.Float32,
    "position": pl.Float32,
    "dwell_s": pl.Float32,
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AttributeNames(_Record):
    """The attribute columns of a table, by kind."""

    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    text: tuple[str, ...]


class SourceCounts(_Record):
    """What became of the rows of one source; `input = kept + quarantined + excluded`."""

    input: int
    kept: int
    quarantined: int
    excluded: int
    quarantined_by_rule: dict[str, int]


class DatasetCounts(_Record):
    """The sizes of the dataset's tables; rows are events."""

    rows: int
    items: int
    users: int


class DatasetMeta(_Record):
    """What dataset.json says."""

    format_version: int
    shop: str
    event_types: tuple[str, ...]
    target_event_types: tuple[str, ...]
    item_attributes: AttributeNames
    user_attributes: AttributeNames
    context_columns: tuple[str, ...]
    counts: DatasetCounts
    sources: dict[str, SourceCounts]
    imputed: dict[str, int]
    first_time_s: int
    last_time_s: int

    @property
    def quarantine(self) -> dict[str, int]:
        """Quarantined rows by rule, over all sources."""
        totals: dict[str, int] = {}
        for source in self.sources.values():
            for rule, count in source.quarantined_by_rule.items():
                totals[rule] = totals.get(rule, 0) + count
        return totals


@dataclass(frozen=True, eq=False)
class EventColumns:
    """The events as arrays of one length E, sorted by user_row, then time_s, then the order of the files."""

    user_row: npt.NDArray[np.int32]  # (E,) row in Dataset.users
    item_row: npt.NDArray[np.int32]  # (E,) row in Dataset.items
    event_type: npt.NDArray[np.uint8]  # (E,) place in meta.event_types
    time_s: npt.NDArray[np.int64]  # (E,) seconds since the epoch, UTC
    session: npt.NDArray[np.int64]  # (E,) code of the session or basket; NO_SESSION when there is none
    quantity: npt.NDArray[np.float32]  # (E,) pieces; NaN when absent, as below
    value: npt.NDArray[np.float32]  # (E,) money
    rating: npt.NDArray[np.float32]  # (E,)
    position: npt.NDArray[np.float32]  # (E,)
    dwell_s: npt.NDArray[np.float32]  # (E,)
    context: Mapping[str, npt.NDArray[np.object_]]  # per declared column (E,) str; "unknown" when absent

    def __len__(self) -> int:
        return len(self.user_row)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A shop's cleaned users, items and events."""

    meta: DatasetMeta
    items: pl.DataFrame
    users: pl.DataFrame
    events: EventColumns

    @property
    def item_count(self) -> int:
        """Number of items; item rows are 0 to item_count - 1."""
        return self.items.height

    @property
    def user_count(self) -> int:
        """Number of users; user rows are 0 to user_count - 1."""
        return self.users.height


def load_dataset(path: Path) -> Dataset:
    """Load the dataset directory that ingest wrote.

    Raises:
        DatasetError: the directory or a file of it is missing, of another format, or does not agree with dataset.json.
    """
    meta = _read_meta(path)
    items = _read_table(path / ITEMS_FILE, meta.counts.items)
    users = _read_table(path / USERS_FILE, meta.counts.users)
    events = _read_table(path / EVENTS_FILE, meta.counts.rows)
    _require_schema(path / ITEMS_FILE, items, {"item_id": pl.String} | _attribute_dtypes(meta.item_attributes))
    _require_schema(path / USERS_FILE, users, {"user_id": pl.String} | _attribute_dtypes(meta.user_attributes))
    _require_schema(path / EVENTS_FILE, events, dict(EVENT_DTYPES) | dict.fromkeys(meta.context_columns, pl.String))
    columns: dict[str, Any] = {name: events[name].to_numpy() for name in EVENT_DTYPES}
    context = {name: events[name].to_numpy() for name in meta.context_columns}
    return Dataset(meta=meta, items=items, users=users, events=EventColumns(**columns, context=context))


def _read_meta(path: Path) -> DatasetMeta:
    file = path / META_FILE
    try:
        meta = DatasetMeta.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: no dataset here ({META_FILE} is missing); run `python -m towers ingest`"
        ) from error
    except (OSError, ValidationError) as error:
        raise DatasetError(f"{file}: cannot be read as a dataset's description; ingest again") from error
    if meta.format_version != FORMAT_VERSION:
        raise DatasetError(
            f"{file}: format_version is {meta.format_version}, this code reads {FORMAT_VERSION}; ingest again"
        )
    return meta


def _read_table(file: Path, row_count: int) -> pl.DataFrame:
    try:
        table = pl.read_parquet(file, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"{file}: missing or damaged; ingest again") from error
    if table.height != row_count:
        raise DatasetError(f"{file}: has {table.height} rows where {META_FILE} says {row_count}; ingest again")
    return table


def _attribute_dtypes(names: AttributeNames) -> dict[str, type[pl.DataType]]:
    texts = dict.fromkeys((*names.categorical, *names.text), pl.String)
    return texts | dict.fromkeys(names.numeric, pl.Float32)


def _require_schema(file: Path, table: pl.DataFrame, expected: Mapping[str, type[pl.DataType]]) -> None:
    for name, dtype in expected.items():
        found = table.schema.get(name)
        if found != dtype:
            raise DatasetError(f"{file}: column {name!r} is {found}, expected {dtype.__name__}; ingest again")
        if table[name].null_count():
            raise DatasetError(f"{file}: column {name!r} has nulls; ingest again")
