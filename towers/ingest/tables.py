"""The three sources as tables with our own column names, before any cleaning.

Beside the mapped columns every table carries where a row comes from (FILE, ROW) and, for columns that hold numbers or
times, the text of cells that do not (`wrong_column`). Events also carry two hashes of their whole row, which tell
double exports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from towers.ingest.cells import number_cell, text_cell, time_cell
from towers.ingest.files import find_files, naming, require_columns, scan_file
from towers.schema.config import AttributeSource, EventsSection, ItemsSection, ShopConfig, Source, UsersSection
from towers.schema.errors import EmptyFileError

FILE, ROW = "at:file", "at:row"  # place in SourceTable.files; row in that file from 0, without the header
ROW_HASHES = ("hash:1", "hash:2")  # 128 bits together: chance does not make two rows equal
EVENT_NUMBERS = ("quantity", "value", "rating", "position", "dwell_s")

Columns = Callable[[pl.Schema], list[pl.Expr]]


@dataclass(frozen=True)
class SourceTable:
    """A source as read: its rows, its files, and what the shop calls our columns."""

    source: str
    files: tuple[Path, ...]
    frame: pl.DataFrame
    shop_names: dict[str, str]

    def place(self, file: int, row: int) -> str:
        """Where a row stands, for people."""
        return f"{self.files[file]}, row {row}"


def wrong_column(name: str) -> str:
    """Name the column with the text of wrong cells of column `name`."""
    return f"wrong:{name}"


def context_column(name: str) -> str:
    """Name our column of the declared context column `name`."""
    return f"context:{name}"


def read_events(config: ShopConfig) -> SourceTable:
    """Read the events of a shop.

    Raises:
        IngestError: a file is missing, empty, unreadable or lacks a column.
    """
    events = config.events
    names = {name: column for name, column in events.columns.model_dump().items() if column is not None}
    wanted = {column: f"[events.columns] {name}" for name, column in names.items()}
    wanted |= dict.fromkeys(events.context, "[events] context")
    hashed = config.cleaning.duplicates.columns
    wanted |= {column: "[cleaning.duplicates] columns" for column in hashed if column not in wanted}
    shop_names = {("time_s" if name == "timestamp" else name): column for name, column in names.items()}
    shop_names |= {context_column(column): column for column in events.context}

    def columns(schema: pl.Schema) -> list[pl.Expr]:
        hashes = [
            pl.struct(sorted(hashed or schema.names())).hash(seed).alias(name)
            for seed, name in enumerate(ROW_HASHES, start=1)
        ]
        return _event_columns(events, names, schema) + hashes

    return _read("events", events, wanted, shop_names, columns)


def read_items(config: ShopConfig) -> SourceTable:
    """Read the catalogue of a shop; raises like read_events."""
    return _read_attributes("items", "item_id", config.items.item_id, config.items)


def read_users(config: ShopConfig) -> SourceTable | None:
    """Read the users of a shop, or None when it declares none; raises like read_events."""
    if config.users is None:
        return None
    return _read_attributes("users", "user_id", config.users.user_id, config.users)


def _event_columns(events: EventsSection, names: dict[str, str], schema: pl.Schema) -> list[pl.Expr]:
    columns: list[pl.Expr] = []
    for name in ("user_id", "item_id", "event_type", "session_id"):
        column = names.get(name)
        text = text_cell(column, schema[column]) if column is not None else pl.lit(None, dtype=pl.String)
        columns.append(text.alias(name))
    for name in EVENT_NUMBERS:
        column = names.get(name)
        if column is not None:
            cell = number_cell(column, schema[column])
            columns += [cell.value.alias(name), cell.wrong.alias(wrong_column(name))]
        else:
            columns.append(pl.lit(None, dtype=pl.Float32).alias(name))
    time = time_cell(names["timestamp"], schema[names["timestamp"]], events.timestamp_format, events.time_zone)
    columns += [time.value.alias("time_s"), time.wrong.alias(wrong_column("time_s"))]
    columns += [text_cell(column, schema[column]).alias(context_column(column)) for column in events.context]
    return columns


def _read_attributes(source: str, key: str, key_column: str, config: ItemsSection | UsersSection) -> SourceTable:
    wanted = {key_column: f"[{source}] {key}"} | {
        column: f"[{source}] {kind}" for kind in ("categorical", "numeric", "text") for column in getattr(config, kind)
    }

    def columns(schema: pl.Schema) -> list[pl.Expr]:
        exprs = [text_cell(key_column, schema[key_column]).alias(key)]
        exprs += [text_cell(name, schema[name]).alias(name) for name in config.categorical + config.text]
        for name in config.numeric:
            cell = number_cell(name, schema[name])
            exprs += [cell.value.alias(name), cell.wrong.alias(wrong_column(name))]
        return exprs

    shop_names = {key: key_column} | {name: name for name in config.attributes}
    return _read(source, config, wanted, shop_names, columns)


def _read(
    source: str, config: Source | AttributeSource, wanted: dict[str, str], shop_names: dict[str, str], columns: Columns
) -> SourceTable:
    files = find_files(source, config.files)
    frames = []
    for number, file in enumerate(files):
        with naming(file):
            lazy = scan_file(file, config)
            schema = lazy.collect_schema()
            require_columns(file, schema, wanted)
            frame = lazy.select(columns(schema)).collect()
        if frame.is_empty():
            raise EmptyFileError(f"{file}: the file has no rows (columns: {', '.join(schema.names())})")
        place = [pl.lit(number, dtype=pl.UInt32).alias(FILE), pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW)]
        frames.append(frame.with_columns(place))
    return SourceTable(source=source, files=tuple(files), frame=pl.concat(frames), shop_names=shop_names)
