from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from towers.schema import ConfigError, read_shop_config
from towers.settings import LearningSettings, RankerSettings, TowerSettings, TrainingSettings


def test_heads_must_divide_the_dimension_of_a_self_attention_encoder() -> None:
    with pytest.raises(ValidationError, match="heads: 3 does not divide the dimension 64"):
        TowerSettings(dimension=64, heads=3)
    assert TowerSettings(dimension=64, heads=3, encoder="mean").heads == 3


def test_what_a_positive_competes_with_and_what_gaps_end_at_follow_from_the_recipe() -> None:
    assert TowerSettings().negatives == "batch"
    assert TowerSettings(in_batch_negatives=False).negatives == "uniform"
    assert TowerSettings(loss="gbce").negatives == "uniform"
    assert TowerSettings().gaps_to == "request"
    assert TowerSettings(positions="all").gaps_to == "next"


def test_the_horizon_must_end_within_the_validation_days() -> None:
    with pytest.raises(ValidationError, match=r"horizon_days 30 is longer than training\.validation_days 14"):
        LearningSettings(training=TrainingSettings(validation_days=14))
    assert LearningSettings(ranker=RankerSettings(horizon_days=14), training=TrainingSettings(validation_days=14))


def test_times_need_a_zone() -> None:
    with pytest.raises(ValidationError, match="train_end needs a time zone: 2026-10-01T00:00:00; append Z"):
        TrainingSettings(train_end=datetime(2026, 10, 1))


def test_unknown_keys_are_errors() -> None:
    with pytest.raises(ValidationError, match="epoch_max"):
        TowerSettings.model_validate({"epoch_max": 3})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[ranker]\nhorizon_days = 60", "ranker.horizon_days 60 is longer than training.validation_days 30"),
        ("[ranker]\nhidden = [0, 8]", "ranker.hidden"),
        ("[towers]\nheads = 7", "heads: 7 does not divide the dimension 64"),
        ("[towers]\nepochs = 7", "towers.epochs: unknown key"),
        ('[features]\naffinity_attributes = ["brand"]', "'brand' is not among"),
    ],
)
def test_a_shops_file_with_a_wrong_section_is_refused_by_name(tmp_path: Path, section: str, message: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(
        f"""
[shop]
name = "Tea"
work_dir = "work"
[events]
files = ["events.csv"]
event_types = ["purchase"]
default_event_type = "purchase"
target_event_types = ["purchase"]
columns = {{ user_id = "who", item_id = "sku", timestamp = "when" }}
[items]
files = ["items.csv"]
item_id = "sku"
{section}
"""
    )
    with pytest.raises(ConfigError, match=message) as refusal:
        read_shop_config(file)
    assert str(refusal.value).startswith(str(file))
