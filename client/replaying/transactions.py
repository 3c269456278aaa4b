"""A time range of a shop's dataset as events, in the order of time, one day in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import ValidationError
from twinrank.v1 import events_pb2 as pb

from towers.schema import NO_SESSION, DatasetError, DatasetMeta
from towers.schema.dataset import EVENTS_FILE, ITEMS_FILE, META_FILE, USERS_FILE

WINDOW_S = 86_400
UNKNOWN = "unknown"
"""What ingest writes where a context column has no value."""
NUMBERS = ("quantity", "value", "rating", "dwell_s")


@dataclass(frozen=True, slots=True)
class Transaction:
    """One event of the dataset; `event.time` is not set yet."""

    time_s: int
    event: pb.Event


class Transactions:
    """The events of [from_s, until_s). An event's id is its row in the dataset: the same in every replay.

    Raises DatasetError.
    """

    def __init__(self, directory: Path, from_s: float, until_s: float) -> None:
        self._file = directory / EVENTS_FILE
        self._meta = _read_meta(directory)
        try:
            self._user_ids = pl.read_parquet(directory / USERS_FILE, columns=["user_id"])["user_id"]
            self._item_ids = pl.read_parquet(directory / ITEMS_FILE, columns=["item_id"])["item_id"]
            self._all = pl.scan_parquet(self._file, glob=False).with_row_index("row")
            mine = self._all.filter(pl.col("time_s").is_between(from_s, until_s, closed="left"))
            first, last, self.count = (
                mine.select(pl.col("time_s").min(), pl.col("time_s").max().alias("last"), pl.len()).collect().row(0)
            )
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DatasetError(f"{directory}: missing or damaged; ingest again") from error
        self._begin_s = 0 if first is None else int(first)
        self._end_s = 0 if last is None else int(last) + 1

    def __iter__(self) -> Iterator[Transaction]:
        for begin_s in range(self._begin_s, self._end_s, WINDOW_S):
            end_s = min(begin_s + WINDOW_S, self._end_s)
            window = self._all.filter(pl.col("time_s").is_between(begin_s, end_s, closed="left"))
            for row in window.sort("time_s", maintain_order=True).collect().iter_rows(named=True):
                yield self._transaction(row)

    def _transaction(self, row: dict[str, float | int | str]) -> Transaction:
        event = pb.Event(
            event_id=f"replay/{row['row']}",
            event_type=self._meta.event_types[int(row["event_type"])],
            user_id=self._user_ids[int(row["user_row"])],
            item_id=self._item_ids[int(row["item_row"])],
        )
        if row["session"] != NO_SESSION:
            event.session_id = str(row["session"])
        for name in NUMBERS:
            number = float(row[name])
            if not math.isnan(number):
                setattr(event, name, number)
        position = float(row["position"])
        if position >= 0:  # NaN is not
            event.position = int(position)
        for name in self._meta.context_columns:
            if row[name] != UNKNOWN:
                event.context[name] = str(row[name])
        return Transaction(int(row["time_s"]), event)


def _read_meta(directory: Path) -> DatasetMeta:
    try:
        return DatasetMeta.model_validate_json((directory / META_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise DatasetError(f"{directory}: no dataset here; run `python -m towers ingest`") from error
