"""What every room's tests may use: the small made shop and its dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from towers.ingest import ingest_shop
from towers.schema import Dataset, load_dataset, read_shop_config


@pytest.fixture(scope="session")
def small_shop_config() -> Path:
    """Path of the small shop's TOML file; for a work directory of your own see ShopConfig.with_work_dir."""
    return Path(__file__).parent / "shops" / "small" / "shop.toml"


@pytest.fixture(scope="session")
def small_dataset(small_shop_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The small shop's dataset, ingested once."""
    config = read_shop_config(small_shop_config).with_work_dir(tmp_path_factory.mktemp("small"))
    return load_dataset(ingest_shop(config).dataset_dir)
