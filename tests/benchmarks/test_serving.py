"""What the runner makes of its cells: medians, the agreed names, the bars, and what it measures anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import bars, cells
from tests.benchmarks.bars import BARS, bars_table
from tests.benchmarks.cells import FIGURES, WORKLOAD_FIGURES, cell_file, medians, read_cell, write_cell
from tests.benchmarks.paths import PATHS
from tests.benchmarks.table import growth_table, tables


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cells, "CELLS_DIR", tmp_path / "cells")
    monkeypatch.setattr(cells, "RESULT_FILE", tmp_path / "serving.json")
    monkeypatch.setattr(cells, "DETAILS_FILE", tmp_path / "details.json")
    return tmp_path


def measured(rps: float = 100.0, cpu_us: float = 10.0, **more: Any) -> dict[str, Any]:
    return {"rps": rps, "cpu_us": cpu_us, "p50_ms": 1.0, "p99_ms": 2.0, "generation_id": "g2", **more}


def test_medians_and_spreads_stand_beside_each_other() -> None:
    found = medians([measured(rps=rps) for rps in (90.0, 100.0, 120.0)])
    assert found["rps"] == 100.0
    assert found["rps_spread"] == pytest.approx(0.3)
    assert found["cpu_us_spread"] == 0.0
    assert found["repeats"] == 3


def test_the_result_has_the_agreed_names_and_no_other(directory: Path) -> None:
    for path in PATHS:
        write_cell(cell_file("W1M", path, 0), measured(in_flight=32, commit="abc"))
    write_cell(cell_file("W1M", "manifest", 0), {"recall_at_200": 0.92, "item_count": 7, "generation_id": "g2"})
    write_cell(cell_file("W1M", "overlap", 0), {"overlap_at_20": 1.0, "generation_id": "g2", "wall_s": 3.0})
    write_cell(cell_file("W1M", "rebuild", 0), {"rebuild_s": 90.0, "generation_id": "g2"})
    workers = {"pss_mb_one": 1.0, "pss_mb_per_further_worker": 2.0, "ready_s_four": 3.0, "generation_id": "g2"}
    write_cell(cell_file("W1M", "workers", 0), workers)
    details = cells.write_results()
    assert details["W1M"]["engine"]["in_flight"] == 32
    found = json.loads((directory / "serving.json").read_text())["W1M"]
    assert set(found) == {*PATHS, *WORKLOAD_FIGURES}
    assert set(found["engine"]) == {*FIGURES, "rps_spread", "cpu_us_spread"}


def test_a_cell_of_another_generation_is_measured_anew_and_never_mixed_in(directory: Path) -> None:
    write_cell(cell_file("W0", "engine", 0), measured(cpu_us=99.0) | {"generation_id": "g1"})
    write_cell(cell_file("W0", "engine", 1), measured(cpu_us=10.0))
    write_cell(cell_file("W0", "rebuild", 0), {"rebuild_s": 1.0, "generation_id": "g1"})
    assert read_cell(cell_file("W0", "engine", 0), "g2") is None
    assert read_cell(cell_file("W0", "engine", 1), "g2") is not None
    details = cells.write_results()
    assert details["W0"]["engine"]["cpu_us"] == 10.0
    assert details["W0"]["engine"]["repeats"] == 1
    assert "rebuild_s" not in details["W0"]


def test_a_path_whose_name_begins_like_another_is_kept_apart(directory: Path) -> None:
    write_cell(cell_file("W0", "engine", 0), measured())
    write_cell(cell_file("W0", "echo_native_unary", 0), measured(cpu_us=20.0))
    write_cell(cell_file("W0", "native_unary", 0), measured(cpu_us=40.0))
    details = cells.write_results()
    assert [details["W0"][path]["cpu_us"] for path in ("engine", "echo_native_unary", "native_unary")] == [10, 20, 40]


def everything() -> dict[str, dict[str, Any]]:
    """Figures that just meet every bar."""
    costs = {"engine": 70.0, "plain": 100.0, "native_unary": 96.0, "echo_native_unary": 20.0}
    costs |= {"grpcio_stream": 109.0, "echo_grpcio_stream": 30.0}
    rates = {"native_unary": 4_500.0, "naive": 1_000.0, "mosec": 2_250.0, "grpcio_unary": 2_500.0}
    paths = {path: measured(rates.get(path, 1.0), costs.get(path, 1.0)) for path in PATHS}
    facts = {"recall_at_200": 0.92, "overlap_at_20": 0.99, "pss_mb_per_further_worker": 100.0, "item_count": 1_000_000}
    facts |= {"ready_s_four": 5.0, "rebuild_s": 180.0}
    smaller = {path: measured(cpu_us=paths[path]["cpu_us"] / 2) for path in ("engine", "native_unary")}
    return {
        "W0": {"native_unary": measured(4_500.0), "item_count": 90_000, "recall_at_200": 1.0},
        "W100k": smaller | {"recall_at_200": 0.925, "item_count": 100_000},
        "W1M": paths | facts,
    }


def test_every_bar_is_met_by_figures_that_just_meet_it() -> None:
    text = bars_table(everything())
    assert text.count("| met |") == len(BARS)
    assert "| engine / plain, CPU a request | ≤ 0.7 | 0.70 | met |" in text


@pytest.mark.parametrize(
    ("workload", "path", "figure", "factor"),
    [
        ("W1M", "engine", "cpu_us", 1.01),
        ("W1M", "native_unary", "cpu_us", 1.01),
        ("W1M", "grpcio_stream", "cpu_us", 1.01),
        ("W1M", "mosec", "rps", 1.01),
        ("W1M", "naive", "rps", 1.01),
        ("W0", "native_unary", "rps", 0.99),
        ("W1M", "native_unary", "p99_ms", 8),
    ],
)
def test_a_figure_that_is_worse_does_not_meet_its_bar(workload: str, path: str, figure: str, factor: float) -> None:
    details = everything()
    details[workload][path][figure] *= factor
    assert "**not met**" in bars_table(details)


def test_growth_is_judged_at_equal_recall_only() -> None:
    details = everything()
    details["W100k"]["recall_at_200"] = 0.92 - bars.RECALL_EQUAL - 0.001
    assert bars_table(details).count("not measured: recall differs") == 2


def test_what_is_not_measured_is_said_and_not_guessed() -> None:
    details = {"W0": {"recall_at_200": 1.0, "item_count": 5}}
    assert "| met |" not in bars_table(details)
    assert "| 5 | 1.000 |" in growth_table(details)
    assert "**W0**" in tables(details)
