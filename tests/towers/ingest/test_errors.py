"""What cannot become a dataset: one message that names file, column and value."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest

from towers.ingest import ingest_shop
from towers.schema.errors import (
    ColumnTypeError,
    EmptyFileError,
    IngestError,
    MissingColumnError,
    MissingFileError,
    NothingLeftError,
    RejectRatioError,
    UnreadableFileError,
)

GOOD = "u1,i1,2026-10-01T10:00:00,purchase,b1,1,2.0,phone"


def failure(shop: Any, error: type[IngestError]) -> str:
    with pytest.raises(error) as caught:
        shop.ingest()
    message = str(caught.value)
    assert "\n" not in message
    assert not shop.config.dataset_dir.exists()
    return message


def test_a_missing_file_is_named(shop: Any) -> None:
    shop.sections["items"]["files"] = ["catalogue.csv"]
    assert failure(shop, MissingFileError) == f"[items] files: there is no file {shop.directory}/catalogue.csv"


def test_a_glob_without_files_is_named(shop: Any) -> None:
    shop.sections["events"]["files"] = ["events.csv", "archive/*.csv"]
    assert f"{shop.directory}/archive/*.csv" in failure(shop, MissingFileError)


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("package:no_such_package/a.parquet", "'no_such_package' is not installed"),
        ("package:polars/none.parquet", "there is no file"),
        ("package:../polars/none.parquet", "is not installed"),
    ],
)
def test_a_file_of_a_package_that_is_not_there_is_named(shop: Any, pattern: str, part: str) -> None:
    shop.sections["items"]["files"] = [pattern]
    message = failure(shop, MissingFileError)
    assert pattern in message
    assert part in message


def test_a_missing_column_is_named_with_the_key_that_asks_for_it_and_the_columns_that_are_there(shop: Any) -> None:
    shop.sections["events"]["columns"]["item_id"] = "product"
    shop.sections["events"]["context"] = ["place"]
    message = failure(shop, MissingColumnError)
    assert f"{shop.directory}/events.csv" in message
    assert "'product' (from [events.columns] item_id), 'place' (from [events] context)" in message
    assert "the file has who, sku, when, what, basket, pieces, amount, device" in message


def test_a_missing_attribute_column_is_named(shop: Any) -> None:
    shop.sections["items"]["numeric"] = ["weight"]
    message = failure(shop, MissingColumnError)
    assert "items.csv: no column 'weight' (from [items] numeric); the file has sku, kind, price, title" in message


@pytest.mark.parametrize(("content", "part"), [("", "0 bytes"), ("sku,kind,price,title\n", "no rows")])
def test_an_empty_file_is_named(shop: Any, content: str, part: str) -> None:
    shop.tables["items.csv"] = content
    message = failure(shop, EmptyFileError)
    assert f"{shop.directory}/items.csv" in message
    assert part in message


def test_a_line_with_too_many_cells_names_the_file(shop: Any) -> None:
    shop.rows(GOOD, GOOD + ",more")
    assert f"{shop.directory}/events.csv: cannot be read" in failure(shop, UnreadableFileError)


def test_bytes_that_are_no_text_name_the_file(shop: Any) -> None:
    for name, text in shop.tables.items():
        (shop.directory / name).write_text(text)
    (shop.directory / "items.csv").write_bytes("sku,kind,price,title\ni1,thé,1,x\n".encode("latin-1"))
    with pytest.raises(UnreadableFileError, match=r"items\.csv: cannot be read: .*utf-8"):
        ingest_shop(shop.config)


def test_a_file_that_is_no_parquet_is_named(shop: Any) -> None:
    shop.sections["items"]["files"] = ["items.parquet"]
    shop.tables["items.parquet"] = "sku,kind,price,title\n"
    assert f"{shop.directory}/items.parquet: cannot be read" in failure(shop, UnreadableFileError)


def test_an_unknown_kind_of_file_is_named(shop: Any) -> None:
    shop.sections["items"]["files"] = ["items.xlsx"]
    shop.tables["items.xlsx"] = "sku"
    assert "items.xlsx: unknown kind of file" in failure(shop, UnreadableFileError)


@pytest.mark.parametrize(
    ("column", "values", "part"),
    [
        ("price", [["a"], ["b"]], "column 'price' is List(String), expected numbers"),
        ("kind", [{"a": 1}, {"a": 2}], "column 'kind' is Struct"),
    ],
)
def test_a_column_of_an_impossible_type_is_named(shop: Any, column: str, values: list[Any], part: str) -> None:
    columns = {"sku": ["i1", "i2"], "kind": ["a", "b"], "price": [1.0, 2.0], "title": ["", ""]} | {column: values}
    pl.DataFrame(columns, strict=False).write_parquet(shop.directory / "items.parquet")
    shop.sections["items"]["files"] = ["items.parquet"]
    message = failure(shop, ColumnTypeError)
    assert f"{shop.directory}/items.parquet" in message
    assert part in message


def test_numbers_as_times_need_a_format_that_says_what_they_count(shop: Any) -> None:
    shop.sections["events"]["files"] = ["events.parquet"]
    shop.sections["events"]["context"] = []
    shop.sections["events"]["columns"] = {"user_id": "who", "item_id": "sku", "timestamp": "when", "event_type": "what"}
    events = {"who": ["u1"], "sku": ["i1"], "when": [1_790_000_000], "what": ["view"]}
    pl.DataFrame(events).write_parquet(shop.directory / "events.parquet")
    message = failure(shop, ColumnTypeError)
    assert "events.parquet: column 'when' is Int64, which timestamp_format 'iso8601' cannot read" in message


def test_too_many_rejected_rows_name_the_worst_rules_with_an_example(shop: Any) -> None:
    shop.cleaning["reject_ratio_max"] = 0.05
    shop.rows(GOOD, *(f"u1,i1,2026-10-0{day},view,,two,," for day in range(1, 4)), "u1,i9,2026-10-01,view,,,,")
    message = failure(shop, RejectRatioError)
    assert message.startswith(
        "events: 4 of 5 rows rejected (80.0%), above reject_ratio_max 5.0%: wrong_type 3 (first: "
    )
    assert f"{shop.directory}/events.csv, row 1, column 'pieces', value 'two': not a number" in message
    assert "unknown_items 1" in message
    rejected = re.search(r"all of them are in (\S+)$", message)
    assert rejected
    assert pl.read_parquet(rejected.group(1)).height == 4


@pytest.mark.parametrize(("ratio_max", "fails"), [(0.24, True), (0.25, False)])
def test_the_reject_ratio_may_be_reached_and_leaves_excluded_rows_out(shop: Any, ratio_max: float, fails: bool) -> None:
    shop.cleaning["reject_ratio_max"] = ratio_max
    shop.cleaning["excluded_items"]["where"] = [{"attribute": "kind", "values": ["cup"]}]
    good = [GOOD.replace("10:00", f"10:0{n}") for n in range(3)]
    shop.rows(*good, "u1,i9,2026-10-01,view,,,,", *(f"u1,i3,2026-10-0{n},view,,,," for n in range(1, 9)))
    if fails:
        assert "1 of 4 rows" in failure(shop, RejectRatioError)
    else:
        assert shop.ingest().meta.counts.rows == 3


def test_dirt_in_the_catalogue_counts_by_itself(shop: Any) -> None:
    shop.cleaning["reject_ratio_max"] = 0.05
    shop.tables["items.csv"] += "i4,cup,free,Mug\n"
    message = failure(shop, RejectRatioError)
    assert message.startswith("items: 1 of 4 rows rejected (25.0%)")


def test_nothing_left_names_file_and_reasons(shop: Any) -> None:
    shop.rows("u1,i9,2026-10-01,view,,,,")
    message = failure(shop, NothingLeftError)
    assert f"events: none of the 1 rows of {shop.directory}/events.csv is left: 0 excluded, 1 rejected" in message
    assert "column 'sku', value 'i9'" in message


def test_nothing_left_because_all_was_excluded(shop: Any) -> None:
    shop.cleaning["excluded_items"]["where"] = [{"attribute": "kind", "values": ["tea", "cup"]}]
    assert "2 excluded, 0 rejected" in failure(shop, NothingLeftError)


def test_a_failed_run_leaves_the_former_dataset_as_it_was(shop: Any) -> None:
    former = shop.ingest()
    before = {file.name: file.read_bytes() for file in former.dataset_dir.iterdir()}
    shop.rows("u1,i9,2026-10-01,view,,,,")
    with pytest.raises(NothingLeftError):
        shop.ingest()
    assert {file.name: file.read_bytes() for file in former.dataset_dir.iterdir()} == before
