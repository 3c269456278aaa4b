"""The dataset on disk: numbering and order, the same from CSV and Parquet, whole or not at all."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import towers.ingest.write
from towers.schema import DatasetError, load_dataset
from towers.schema.errors import IngestRunningError


def test_rows_point_into_sorted_tables_and_events_are_sorted_by_user_time_and_file_order(shop: Any) -> None:
    shop.rows(
        "u3,i2,2026-10-02T00:00:01,purchase,b9,2,3.5,phone",
        "u1,i3,2026-10-01T00:00:02,view,b1,,,",
        "u1,i1,2026-10-01T00:00:01,view,b1,,,phone",
        "u1,i2,2026-10-01T00:00:01,purchase,,1,4.0,phone",
    )
    dataset = shop.dataset()
    assert dataset.items["item_id"].to_list() == ["i1", "i2", "i3"]
    assert dataset.users.rows() == [("u1", "Bern", 30.0), ("u2", "Chur", 50.0), ("u3", "unknown", 40.0)]
    assert (dataset.item_count, dataset.user_count, len(dataset.events)) == (3, 3, 4)
    events = dataset.events
    assert events.user_row.tolist() == [0, 0, 0, 2]
    assert events.item_row.tolist() == [0, 1, 2, 1]
    assert events.event_type.tolist() == [0, 1, 0, 1]
    assert (events.time_s - events.time_s[0]).tolist() == [0, 0, 1, 86_400]
    assert events.session.tolist() == [0, -1, 0, 1]
    np.testing.assert_array_equal(events.quantity, np.array([np.nan, 1, np.nan, 2], np.float32))
    np.testing.assert_array_equal(events.value, np.array([np.nan, 4, np.nan, 3.5], np.float32))
    assert np.isnan(events.rating).all()
    assert events.context["device"].tolist() == ["phone", "phone", "unknown", "phone"]
    assert {
        name: getattr(events, name).dtype.name for name in ("user_row", "item_row", "event_type", "time_s", "session")
    } == {
        "user_row": "int32",
        "item_row": "int32",
        "event_type": "uint8",
        "time_s": "int64",
        "session": "int64",
    }
    assert dataset.meta.imputed["users.age"] == dataset.meta.imputed["users.city"] == 1


def test_events_of_one_second_keep_the_order_of_the_files(shop: Any) -> None:
    shop.sections["events"]["files"] = ["events.csv", "archive.csv"]
    shop.rows("u1,i3,2026-10-01,view,,,,phone", "u1,i2,2026-10-01,view,,,,phone")
    shop.tables["archive.csv"] = shop.tables["events.csv"].replace("i3", "i1").replace("u1,i2", "u2,i2")
    assert shop.dataset().events.item_row.tolist() == [2, 1, 0, 1]


def test_a_shop_without_a_users_table_has_the_users_of_its_events(shop: Any) -> None:
    del shop.sections["users"]
    assert shop.dataset().users.rows() == [("u1",), ("u2",)]


def test_parquet_and_csv_give_the_same_dataset(shop: Any) -> None:
    shop.tables["items.csv"] = "sku,kind,price,title\n7,1,2.0,Green tea\n8,,4.5,\n9,2,,Cup\n"
    shop.rows(
        "u1,7,2026-10-01T10:00:00,purchase,11,1,2.0,phone",
        "u2,8,2026-10-02T10:00:00,view,,,,",
        ",8,2026-10-02,view,,,,",
    )
    from_csv = shop.dataset()
    types: dict[str, Any] = {
        "items": {"sku": pl.Int64, "kind": pl.Float64, "price": pl.Float64},
        "users": {"age": pl.Int32, "city": pl.Categorical},
        "events": {"sku": pl.UInt32, "basket": pl.Int64, "pieces": pl.Int16, "amount": pl.Decimal(10, 2)},
    }
    for name, columns in types.items():
        table = pl.read_csv(shop.directory / f"{name}.csv", infer_schema=False).cast(columns)
        if name == "events":
            table = table.with_columns(pl.col("when").str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False))
            table = table.with_columns(pl.col("when").fill_null(pl.datetime(2026, 10, 2)))
        table.write_parquet(shop.directory / f"{name}.parquet")
        shop.sections[name]["files"] = [f"{name}.parquet"]
    shop.tables = {}
    from_parquet = shop.dataset()
    assert from_parquet.meta == from_csv.meta
    assert from_parquet.items.equals(from_csv.items)
    assert from_parquet.users.equals(from_csv.users)
    for column in ("user_row", "item_row", "event_type", "time_s", "session", "quantity", "value"):
        np.testing.assert_array_equal(getattr(from_parquet.events, column), getattr(from_csv.events, column))
    assert from_parquet.events.context["device"].tolist() == from_csv.events.context["device"].tolist()


def test_other_separators_null_words_and_compressed_files_are_read(shop: Any) -> None:
    shop.sections["items"] |= {"files": ["items.tsv"], "csv": {"separator": "\t", "null_values": ["NA"]}}
    shop.tables["items.tsv"] = "sku\tkind\tprice\ttitle\ni1\ttea\t1\tA\ni2\tNA\t3\tB\ni3\tcup\tNA\tC\n"
    assert shop.dataset().items.rows() == [
        ("i1", "tea", 1.0, "A"),
        ("i2", "unknown", 3.0, "B"),
        ("i3", "cup", 2.0, "C"),
    ]


def test_ingesting_twice_gives_the_same_bytes(shop: Any) -> None:
    first = {file.name: file.read_bytes() for file in shop.ingest().dataset_dir.iterdir()}
    second = {file.name: file.read_bytes() for file in shop.ingest().dataset_dir.iterdir()}
    assert first == second
    assert sorted(first) == ["dataset.json", "events.parquet", "items.parquet", "quarantine.parquet", "users.parquet"]


@pytest.mark.parametrize("fail_at", range(6))
def test_a_crash_while_writing_leaves_no_dataset(shop: Any, monkeypatch: pytest.MonkeyPatch, fail_at: int) -> None:
    calls = iter(range(100))

    def failing_flush(_: Path) -> None:
        if next(calls) == fail_at:
            raise OSError("disk full")

    monkeypatch.setattr(towers.ingest.write, "_flush", failing_flush)
    with pytest.raises(OSError, match="disk full"):
        shop.ingest()
    directory = shop.config.dataset_dir
    with pytest.raises(DatasetError, match="no dataset here"):
        load_dataset(directory)
    assert [path.name for path in directory.parent.iterdir()] == [".dataset.lock"]
    monkeypatch.undo()
    assert len(shop.dataset().events) == 2


@pytest.mark.parametrize("fail_at", range(4))
def test_a_crash_between_two_files_keeps_the_former_dataset(
    shop: Any, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    shop.ingest()
    shop.rows("u1,i1,2026-10-01T10:00:00,purchase,b1,1,2.0,phone")
    calls = iter(range(100))
    write = pl.DataFrame.write_parquet

    def failing_write(self: pl.DataFrame, file: Path) -> None:
        if next(calls) == fail_at:
            raise KeyboardInterrupt
        write(self, file)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", failing_write)
    with pytest.raises(KeyboardInterrupt):
        shop.ingest()
    assert len(load_dataset(shop.config.dataset_dir).events) == 2
    assert not shop.config.dataset_dir.with_name("dataset.partial").exists()


def test_what_a_killed_run_left_is_removed(shop: Any) -> None:
    partial = shop.config.dataset_dir.with_name("dataset.partial")
    partial.mkdir(parents=True)
    (partial / "events.parquet").write_bytes(b"half")
    report = shop.ingest()
    assert not partial.exists()
    assert len(list(report.dataset_dir.iterdir())) == 5


def test_what_a_run_killed_between_the_two_renames_had_replaced_comes_back(shop: Any) -> None:
    directory = shop.ingest().dataset_dir
    directory.rename(directory.with_name("dataset.former"))
    with pytest.raises(KeyboardInterrupt), towers.ingest.write.replaced_directory(directory):
        raise KeyboardInterrupt
    assert len(load_dataset(directory).events) == 2


def test_two_ingests_of_one_shop_do_not_mix(shop: Any) -> None:
    lock = shop.config.dataset_dir.with_name(".dataset.lock")
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)  # even a reader's lock keeps a writer out
        with pytest.raises(IngestRunningError, match=r"work/dataset: another ingest"):
            shop.ingest()
    shop.ingest()
