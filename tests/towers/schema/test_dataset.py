"""Loading a dataset: what does not agree with dataset.json is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from towers.ingest import ingest_shop
from towers.schema import DatasetError, load_dataset, read_shop_config


@pytest.fixture(scope="module")
def whole(small_shop_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = read_shop_config(small_shop_config).with_work_dir(tmp_path_factory.mktemp("whole"))
    return ingest_shop(config).dataset_dir


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "dataset"))


def edit_meta(directory: Path, **changes: Any) -> None:
    path = directory / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_copy_loads(copy: Path) -> None:
    assert load_dataset(copy).meta.shop == "Small outdoor shop"


def test_an_empty_directory_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset here"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("name", ["items.parquet", "users.parquet", "events.parquet"])
def test_a_missing_or_damaged_table_is_named(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"PAR1 no more")
    with pytest.raises(DatasetError, match=f"{name}: missing or damaged"):
        load_dataset(copy)
    (copy / name).unlink()
    with pytest.raises(DatasetError, match=f"{name}: missing or damaged"):
        load_dataset(copy)


def test_another_format_is_refused(copy: Path) -> None:
    edit_meta(copy, format_version=99)
    with pytest.raises(DatasetError, match="format_version is 99, this code reads 1"):
        load_dataset(copy)


def test_an_unknown_key_of_the_description_is_refused(copy: Path) -> None:
    edit_meta(copy, surprise=1)
    with pytest.raises(DatasetError, match=r"dataset\.json: cannot be read"):
        load_dataset(copy)


def test_a_table_of_another_length_is_refused(copy: Path) -> None:
    table = pl.read_parquet(copy / "events.parquet")
    table.head(5).write_parquet(copy / "events.parquet")
    with pytest.raises(DatasetError, match=f"has 5 rows where dataset.json says {table.height}"):
        load_dataset(copy)


def test_a_column_of_another_type_is_refused(copy: Path) -> None:
    table = pl.read_parquet(copy / "items.parquet").with_columns(pl.col("price").cast(pl.Float64))
    table.write_parquet(copy / "items.parquet")
    with pytest.raises(DatasetError, match=r"items\.parquet: column 'price' is Float64, expected Float32"):
        load_dataset(copy)


def test_a_null_is_refused(copy: Path) -> None:
    table = pl.read_parquet(copy / "users.parquet").with_columns(city=pl.lit(None, dtype=pl.String))
    table.write_parquet(copy / "users.parquet")
    with pytest.raises(DatasetError, match=r"users\.parquet: column 'city' has nulls"):
        load_dataset(copy)
