"""What the runner makes of its cells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import serving


def test_medians_and_spreads_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CELLS_DIR", tmp_path)
    shop = tmp_path / "W0"
    shop.mkdir()
    (shop / "workload.json").write_text(json.dumps({"recall_at_200": 1.0}))
    for repeat, rps in enumerate([90.0, 100.0, 120.0]):
        (shop / f"engine-{repeat}.json").write_text(json.dumps({"rps": rps, "cpu_us": 10.0}))
    found = serving.summary()["W0"]
    assert found["recall_at_200"] == 1.0
    assert found["engine"]["rps"] == 100.0
    assert found["engine"]["rps_spread"] == pytest.approx(0.3)
    assert found["engine"]["cpu_us_spread"] == 0.0
