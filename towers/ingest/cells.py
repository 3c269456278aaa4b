"""What a cell means: expressions that turn a column of any type into text, a number or a time.

CSV cells arrive as text and Parquet cells with a type; both must give the same value. A cell is missing (null), good,
or wrong: present, but not what its column holds. Wrong cells keep their text, so that the quarantine can show it.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from towers.schema.errors import ColumnTypeError

_INTEGER_EXACT_MAX = 2.0**53  # above it a float no longer holds every integer

_ISO_WITH_OFFSET = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_ISO_WITHOUT_OFFSET = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_EPOCH_UNITS_PER_S = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}


@dataclass(frozen=True)
class Cell:
    """A column's meaning: its value, null where missing or wrong, and the original text where wrong, else null."""

    value: pl.Expr
    wrong: pl.Expr


def text_cell(column: str, dtype: pl.DataType) -> pl.Expr:
    """Text of an id, a category or a text; blank cells are missing.

    Whole floats lose their ".0": a table with one missing id or category often turns all its integers into floats.

    Raises:
        ColumnTypeError: nested or binary column.
    """
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise ColumnTypeError(f"column {column!r} is {dtype}, which cannot be read as text")
    if dtype.is_float():
        number = pl.col(column).fill_nan(None)
        whole = (number == number.floor()) & (number.abs() <= _INTEGER_EXACT_MAX)
        return (
            pl.when(whole).then(number.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(number.cast(pl.String))
        )
    return _stripped(pl.col(column).cast(pl.String)) if _is_textual(dtype) else pl.col(column).cast(pl.String)


def number_cell(column: str, dtype: pl.DataType) -> Cell:
    """Float32 of a quantity. NaN and blank are missing; text that is no number, and what Float32 cannot hold, is wrong.

    Raises:
        ColumnTypeError: the column is neither text nor a number.
    """
    if _is_textual(dtype):
        text = _stripped(pl.col(column).cast(pl.String))
        number = text.cast(pl.Float64, strict=False)
    elif dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        text = pl.col(column).cast(pl.String)
        number = pl.col(column).cast(pl.Float64)
    else:
        raise ColumnTypeError(f"column {column!r} is {dtype}, expected numbers")
    value = number.cast(pl.Float32)
    missing = text.is_null() | number.is_nan().fill_null(False)
    wrong = ~missing & (value.is_null() | value.is_infinite())
    return Cell(value=pl.when(~missing & ~wrong).then(value), wrong=pl.when(wrong).then(text))


def time_cell(column: str, dtype: pl.DataType, timestamp_format: str, time_zone: str) -> Cell:
    """Int64 seconds since the epoch, UTC, fractions cut off.

    A local time that the zone skips is wrong; one that it has twice is taken as the earlier.

    Raises:
        ColumnTypeError: the column's type does not fit the format.
    """
    if dtype in (pl.Datetime, pl.Date):
        moment = pl.col(column).cast(pl.Datetime("us")) if dtype == pl.Date else pl.col(column)
        naive = dtype == pl.Date or getattr(dtype, "time_zone", None) is None
        text = pl.col(column).cast(pl.String)
        seconds = _seconds(_in_zone(moment, time_zone) if naive else moment)
    elif timestamp_format in _EPOCH_UNITS_PER_S and (_is_textual(dtype) or dtype.is_numeric()):
        text = _stripped(pl.col(column).cast(pl.String)) if _is_textual(dtype) else pl.col(column).cast(pl.String)
        number = text.cast(pl.Float64, strict=False) if _is_textual(dtype) else pl.col(column).cast(pl.Float64)
        units_per_s = _EPOCH_UNITS_PER_S[timestamp_format]
        seconds = (number / units_per_s).floor().cast(pl.Int64, strict=False)
    elif _is_textual(dtype):
        text = _stripped(pl.col(column).cast(pl.String))
        seconds = _parsed(text, timestamp_format, time_zone)
    else:
        raise ColumnTypeError(f"column {column!r} is {dtype}, which timestamp_format {timestamp_format!r} cannot read")
    return Cell(value=seconds, wrong=pl.when(text.is_not_null() & seconds.is_null()).then(text))


def _parsed(text: pl.Expr, timestamp_format: str, time_zone: str) -> pl.Expr:
    if timestamp_format != "iso8601":
        moment = text.str.to_datetime(timestamp_format, time_unit="us", strict=False)
        aware = "%z" in timestamp_format or "%:z" in timestamp_format or "%#z" in timestamp_format
        return _seconds(moment if aware else _in_zone(moment, time_zone))
    plain = text.str.replace(r"^(\S{10})[Tt]", "${1} ").str.replace(r"[Zz]$", "+00:00")
    aware_s = [_seconds(plain.str.to_datetime(f, time_unit="us", strict=False)) for f in _ISO_WITH_OFFSET]
    naive_s = [
        _seconds(_in_zone(plain.str.to_datetime(f, time_unit="us", strict=False), time_zone))
        for f in _ISO_WITHOUT_OFFSET
    ]
    return pl.coalesce(*naive_s, *aware_s)


def _in_zone(moment: pl.Expr, time_zone: str) -> pl.Expr:
    return moment.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")


def _seconds(moment: pl.Expr) -> pl.Expr:
    return moment.dt.epoch("s")


def _stripped(text: pl.Expr) -> pl.Expr:
    stripped = text.str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def _is_textual(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)
