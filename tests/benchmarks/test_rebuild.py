"""The rebuild benchmark runs the real command on a shop that it makes, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.rebuild import ensure_shop, measure
from tests.benchmarks.workloads import Workload
from towers.model import read_model
from towers.schema import load_dataset, read_shop_config

WORKLOAD = Workload("tiny", item_count=2_000, user_count=300, list_count=32, probe_count=8)


def test_the_command_runs_and_its_generation_is_removed(tmp_path: Path) -> None:
    config = ensure_shop(WORKLOAD, tmp_path)
    shop = read_shop_config(config)
    assert load_dataset(shop.dataset_dir).item_count == 2_000
    assert 0 < len(read_model(shop.run_dir / "model").encoders.items.ids) < 2_001
    found = measure(config)
    assert found.said[0] == "2,000 items embedded, 2,000 of them retrievable"
    assert found.rebuild_s > found.cpu_s / 4 > 0
    assert found.peak_mb > 50
    assert not [path for path in shop.generations_dir.iterdir() if path.is_dir()]
    made = config.stat().st_mtime_ns
    assert ensure_shop(WORKLOAD, tmp_path).stat().st_mtime_ns == made
