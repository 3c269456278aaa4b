"""What a cell means, whatever file it comes from."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from towers.ingest.cells import Cell, number_cell, text_cell, time_cell
from towers.schema.errors import ColumnTypeError


def evaluated(values: pl.Series, cell: Cell) -> list[tuple[Any, str | None]]:
    return values.to_frame("c").select(value=cell.value, wrong=cell.wrong).rows()


def time_of(values: pl.Series, timestamp_format: str = "iso8601", zone: str = "UTC") -> list[tuple[Any, str | None]]:
    return evaluated(values, time_cell("c", values.dtype, timestamp_format, zone))


def seconds(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series([" a ", "", "  ", None, "é"]), ["a", None, None, None, "é"]),
        (pl.Series([1, None, -3]), ["1", None, "-3"]),
        (pl.Series([1.0, None, float("nan"), 2.5]), ["1", None, None, "2.5"]),
        (pl.Series([True, False]), ["true", "false"]),
        (pl.Series(["x", None], dtype=pl.Categorical), ["x", None]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_text_is_stripped_and_whole_floats_lose_their_point(values: pl.Series, expected: list[str | None]) -> None:
    assert values.to_frame("c").select(text_cell("c", values.dtype)).to_series().to_list() == expected


def test_nested_columns_are_no_text() -> None:
    with pytest.raises(ColumnTypeError, match=r"column 'c' is List\(Int64\)"):
        text_cell("c", pl.List(pl.Int64()))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            pl.Series(["1.5", " 2", "", "two", "1e39"]),
            [(1.5, None), (2.0, None), (None, None), (None, "two"), (None, "1e39")],
        ),
        (pl.Series([1, None]), [(1.0, None), (None, None)]),
        (pl.Series([float("nan"), float("inf"), 0.5]), [(None, None), (None, "inf"), (0.5, None)]),
        (pl.Series([True]), [(1.0, None)]),
        (pl.Series([None]), [(None, None)]),
    ],
)
def test_numbers_are_good_missing_or_wrong(values: pl.Series, expected: list[tuple[float | None, str | None]]) -> None:
    assert evaluated(values, number_cell("c", values.dtype)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01", seconds(2026, 10, 1)),
        ("2026-10-01 07:08", seconds(2026, 10, 1, 7, 8)),
        ("2026-10-01T07:08:09", seconds(2026, 10, 1, 7, 8, 9)),
        ("2026-10-01 07:08:09.999", seconds(2026, 10, 1, 7, 8, 9)),
        ("2026-10-01T07:08:09Z", seconds(2026, 10, 1, 7, 8, 9)),
        ("2026-10-01T07:08:09+02:00", seconds(2026, 10, 1, 5, 8, 9)),
        ("2026-10-01T07:08:09.5-0530", seconds(2026, 10, 1, 12, 38, 9)),
    ],
)
def test_iso_times_of_every_shape_are_read(text: str, expected: int) -> None:
    assert time_of(pl.Series([text])) == [(expected, None)]


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "2026-10-01T25:00:00", "1790000000", "01.10.2026"])
def test_what_is_no_iso_time_is_wrong_and_keeps_its_text(text: str) -> None:
    assert time_of(pl.Series([text])) == [(None, text)]


def test_local_times_are_read_in_the_shops_zone() -> None:
    # Zurich: 02:30 was skipped on 29 March 2026 and came twice on 25 October 2026.
    values = pl.Series(["2026-07-01T12:00:00", "2026-03-29T02:30:00", "2026-10-25T02:30:00", "2026-07-01T12:00:00Z"])
    assert time_of(values, zone="Europe/Zurich") == [
        (seconds(2026, 7, 1, 10), None),
        (None, "2026-03-29T02:30:00"),
        (seconds(2026, 10, 25, 0, 30), None),
        (seconds(2026, 7, 1, 12), None),
    ]


@pytest.mark.parametrize(
    ("timestamp_format", "values"),
    [
        ("epoch_s", pl.Series(["1790000000"])),
        ("epoch_s", pl.Series([1_790_000_000])),
        ("epoch_s", pl.Series([1_790_000_000.9])),
        ("epoch_ms", pl.Series([1_790_000_000_999])),
        ("epoch_us", pl.Series(["1790000000999999"])),
        ("%d.%m.%Y %H:%M:%S", pl.Series(["21.09.2026 14:13:20"])),
        ("%d/%m/%Y %H:%M:%S%z", pl.Series(["21/09/2026 16:13:20+0200"])),
        ("iso8601", pl.Series([datetime(2026, 9, 21, 14, 13, 20)])),
        ("iso8601", pl.Series([datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo")),
    ],
)
def test_every_format_gives_the_same_seconds(timestamp_format: str, values: pl.Series) -> None:
    assert time_of(values, timestamp_format) == [(1_790_000_000, None)]


def test_a_date_is_its_first_second_in_the_shops_zone() -> None:
    values = pl.Series([date(2026, 7, 1)])
    assert time_of(values, zone="Europe/Zurich") == [(seconds(2026, 6, 30, 22), None)]


@pytest.mark.parametrize("text", ["x", "1e300"])
def test_an_epoch_that_is_no_number_or_no_time_is_wrong(text: str) -> None:
    assert time_of(pl.Series([text]), "epoch_s") == [(None, text)]
