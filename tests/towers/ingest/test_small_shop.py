"""The checked-in small shop: its files are what its script makes, and every rule finds its dirt."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from towers.schema import Dataset


def test_the_files_are_what_the_script_makes(small_shop_config: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_small_shop", small_shop_config.with_name("make.py"))
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, script)
        spec.loader.exec_module(script)
        made = script.make()
    for name, content in made.items():
        assert small_shop_config.with_name(name).read_text(encoding="utf-8") == content, f"{name}: run make.py again"


def test_every_rule_finds_its_dirt(small_dataset: Dataset) -> None:
    sources = small_dataset.meta.sources
    assert sources["events"].quarantined_by_rule == {
        "automated_buyers": 22,
        "bad_timestamps": 4,
        "null_keys": 3,
        "wrong_type": 3,
        "duplicates": 2,
        "non_positive_quantity": 2,
        "outliers": 2,
        "unknown_items": 2,
        "unknown_event_types": 1,
    }
    assert sources["items"].quarantined_by_rule == {"duplicates": 1, "wrong_type": 1}
    assert sources["users"].quarantined_by_rule == {"null_keys": 1}
    assert (sources["events"].excluded, sources["items"].excluded) == (3, 2)
    assert small_dataset.meta.quarantine["duplicates"] == 3


def test_it_has_every_event_type_new_items_and_ninety_days(small_dataset: Dataset) -> None:
    events = small_dataset.events
    assert (small_dataset.user_count, small_dataset.item_count) == (30, 43)
    assert set(events.event_type.tolist()) == set(range(5))
    seen = set(np.unique(events.item_row).tolist())
    unseen = {item_id for row, item_id in enumerate(small_dataset.items["item_id"]) if row not in seen}
    assert {"new-jackets", "new-shoes", "new-tents"} <= unseen
    assert 80 < (small_dataset.meta.last_time_s - small_dataset.meta.first_time_s) / 86_400 < 90
    assert set(events.context["device"].tolist()) == {"phone", "desktop", "tablet", "unknown"}
    assert set(events.rating[~np.isnan(events.rating)].tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_shoppers_buy_their_favourite_category_and_buy_again(small_dataset: Dataset) -> None:
    events = small_dataset.events
    bought = events.event_type == 3
    categories = small_dataset.items["category"].to_numpy()[events.item_row[bought]]
    users = events.user_row[bought]
    shares = [
        np.unique(categories[users == user], return_counts=True)[1].max() / (users == user).sum()
        for user in set(users.tolist())
    ]
    assert np.mean(shares) > 0.6  # five categories alike would give little over 0.3
    pairs = np.unique(np.stack([users, events.item_row[bought]]), axis=1).shape[1]
    assert pairs < 0.8 * bought.sum()
