"""A shop of a few rows, written as CSV and described by a config, that each test dirties in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from towers.ingest import IngestReport, ingest_shop
from towers.schema import Dataset, ShopConfig, load_dataset

RULES = (
    "excluded_items",
    "null_keys",
    "wrong_type",
    "bad_timestamps",
    "unknown_event_types",
    "duplicates",
    "non_positive_quantity",
    "unknown_items",
    "outliers",
    "automated_buyers",
    "imputation",
)
ITEMS = "sku,kind,price,title\ni1,tea,2.0,Green tea\ni2,tea,4.0,Black tea\ni3,cup,9.0,Cup\n"
USERS = "who,city,age\nu1,Bern,30\nu2,Chur,50\n"
EVENT_HEADER = "who,sku,when,what,basket,pieces,amount,device"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Shop:
    """The files and config of a shop in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tables: dict[str, str] = {"items.csv": ITEMS, "users.csv": USERS}
        self.cleaning: dict[str, Any] = {rule: {"enabled": True} for rule in RULES} | {"reject_ratio_max": 1.0}
        self.cleaning["bad_timestamps"] |= {"now": NOW}
        self.cleaning["automated_buyers"] |= {"events_a_day_min": 1000}
        self.sections: dict[str, Any] = {
            "shop": {"name": "Tea", "work_dir": str(directory / "work")},
            "events": {
                "files": ["events.csv"],
                "columns": {
                    "user_id": "who",
                    "item_id": "sku",
                    "timestamp": "when",
                    "event_type": "what",
                    "session_id": "basket",
                    "quantity": "pieces",
                    "value": "amount",
                },
                "event_types": ["view", "purchase"],
                "target_event_types": ["purchase"],
                "context": ["device"],
            },
            "items": {
                "files": ["items.csv"],
                "item_id": "sku",
                "categorical": ["kind"],
                "numeric": ["price"],
                "text": ["title"],
            },
            "users": {"files": ["users.csv"], "user_id": "who", "categorical": ["city"], "numeric": ["age"]},
        }

    def rows(self, *rows: str) -> None:
        """Write the events file: a header and these rows."""
        self.tables["events.csv"] = "\n".join([EVENT_HEADER, *rows, ""])

    def off(self, *rules: str) -> None:
        """Switch rules off."""
        for rule in rules:
            self.cleaning[rule] |= {"enabled": False}

    @property
    def config(self) -> ShopConfig:
        """The config as read_shop_config would give it."""
        content: Mapping[str, Any] = self.sections | {"cleaning": self.cleaning}
        return ShopConfig.model_validate(content, context={"directory": self.directory})

    def ingest(self) -> IngestReport:
        """Write the files and ingest them."""
        for name, text in self.tables.items():
            (self.directory / name).write_text(text, encoding="utf-8")
        return ingest_shop(self.config)

    def dataset(self) -> Dataset:
        """Ingest and load."""
        return load_dataset(self.ingest().dataset_dir)

    def quarantine(self) -> list[tuple[str, int, str, str, str | None]]:
        """Ingest; give (source, row, rule, column, value) of what was rejected."""
        table = pl.read_parquet(self.ingest().dataset_dir / "quarantine.parquet")
        return table.select("source", "row", "rule", "column", "value").rows()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A clean shop: two events, three items, two users."""
    shop = Shop(tmp_path)
    shop.rows("u1,i1,2026-10-01T10:00:00,purchase,b1,1,2.0,phone", "u2,i2,2026-10-02T10:00:00,view,b2,,,desktop")
    return shop


MakeShop = Callable[[Path], Shop]


@pytest.fixture(scope="session")
def make_shop() -> MakeShop:
    """For property tests, which need a fresh shop an example."""
    return Shop
