"""A shop's TOML file: what it says, and how a mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from towers.schema import ConfigError, ShopConfig, read_shop_config
from towers.schema.cleaning import Cleaning
from towers.schema.config import EventsSection, ItemsSection, ShopSection, UsersSection

MINIMAL = """
[shop]
name = "Tea"
work_dir = "var/tea"
[events]
files = ["events.csv"]
event_types = ["purchase"]
default_event_type = "purchase"
target_event_types = ["purchase"]
[events.columns]
user_id = "who"
item_id = "sku"
timestamp = "when"
[items]
files = ["data/items.csv", "package:tea/items.parquet"]
item_id = "sku"
categorical = ["kind"]
"""


def read(tmp_path: Path, text: str) -> ShopConfig:
    path = tmp_path / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return read_shop_config(path)


def test_a_minimal_config_has_every_rule_on(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert config.users is None
    assert config.cleaning.reject_ratio_max == 0.05
    rules = [getattr(config.cleaning, name) for name in Cleaning.model_fields if name != "reject_ratio_max"]
    assert all(rule.enabled for rule in rules)


def test_files_are_relative_to_the_config_and_the_work_directory_to_the_current_one(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert config.items.files == (f"{tmp_path}/data/items.csv", "package:tea/items.parquet")
    assert config.dataset_dir == Path("var/tea/dataset")
    assert config.with_work_dir(tmp_path).run_dir == tmp_path / "run"


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[3].glob("towers/shops/*.toml")), ids=lambda path: path.stem
)
def test_the_shops_in_the_repository_are_valid(path: Path) -> None:
    assert read_shop_config(path).events.target_event_types


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("item_id =", "iten_id =", "events.columns.iten_id: unknown key (it is 'sku')"),
        ('timestamp = "when"', "", "events.columns.timestamp: Field required"),
        (
            '["purchase"]\n[events.columns]',
            '["buy"]\n[events.columns]',
            "event type 'buy' is not among event_types ['purchase']",
        ),
        ('default_event_type = "purchase"', "", "default_event_type must say what the events are"),
        ('files = ["events.csv"]', 'files = ["events.csv"]\ntime_zone = "Mars"', "there is no time zone 'Mars'"),
        (
            'files = ["events.csv"]',
            'files = ["events.csv"]\ntimestamp_format = "iso"',
            "expected one of iso8601, epoch_s",
        ),
        (
            'files = ["events.csv"]',
            'files = ["events.csv"]\ncontext = ["value"]',
            "has the name of a column of the dataset",
        ),
        ('files = ["events.csv"]', "files = []", "events.files: "),
        ('["kind"]', '["kind", "kind"]', "name ['kind'] twice"),
        ('["kind"]', '["kind"]\nnumeric = ["item_id"]', "'item_id' is an id, not an attribute"),
        ("[items]", "[cleaning.outlier]\n[items]", "cleaning.outlier: unknown key"),
        ("[items]", "[cleaning]\nreject_ratio_max = 5\n[items]", "cleaning.reject_ratio_max: "),
        ("[items]", "[cleaning.bad_timestamps]\nnow = 2026-01-01T00:00:00\n[items]", "cleaning.bad_timestamps.now: "),
        (
            "[items]",
            '[[cleaning.excluded_items.where]]\nattribute = "dept"\nvalues = ["x"]\n[items]',
            "cleaning.excluded_items: 'dept' is not among [items] categorical ['kind']",
        ),
        ("[items]", "[items", "not a TOML file"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_value(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, MINIMAL.replace(old, new, 1))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/shop.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [ShopSection, EventsSection, ItemsSection, UsersSection])
def test_every_setting_says_what_it_is(model: type[BaseModel]) -> None:
    silent = [
        name for name, field in model.model_fields.items() if not field.description and name not in ("csv", "columns")
    ]
    assert silent == []
