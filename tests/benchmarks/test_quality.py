"""The public benchmarks' runner: what it skips, what it does not do twice, where ours stands in the table."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.benchmarks import quality

BEAUTY = {"recall@10": 0.07, "ndcg@10": 0.04, "seconds": 60.0}
FIGURES = {**BEAUTY, "offline": BEAUTY, "refit": {"recall@10": 0.2, "ndcg@10": 0.1}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Beauty's files are there, Gowalla's test file is not."""
    for file in ("amazon-beauty/Beauty.txt", "amazon-beauty/Beauty_item2attributes.json", "gowalla/train.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "work" / "quality").mkdir(parents=True)
    return tmp_path


def test_a_missing_file_skips_its_dataset_and_the_others_are_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        asked.append(command)
        Path(command[command.index("--json") + 1]).write_text(json.dumps(FIGURES))

    monkeypatch.setattr(subprocess, "run", run)
    quality.main(data, None, data / "work")
    said = capsys.readouterr().out
    assert f"gowalla: skipped, {data / 'gowalla' / 'test.txt'} is not there" in said
    assert json.loads((data / "work" / "quality.json").read_text()) == {"amazon-beauty": FIGURES}
    [command] = asked
    assert command[2:6] == ["towers", "benchmark", str(data / "amazon-beauty" / "Beauty.txt"), "--attributes"]
    assert Path(command[command.index("--config") + 1]).exists()
    quality.main(data, None, data / "work")
    assert len(asked) == 2  # the run before had ended


def test_what_an_interrupted_run_had_measured_is_not_measured_again(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "work" / "quality" / "amazon-beauty.json").write_text(json.dumps(FIGURES))

    def run(command: list[str], check: bool) -> None:
        raise AssertionError(command)

    monkeypatch.setattr(subprocess, "run", run)
    quality.main(data, None, data / "work")
    assert json.loads((data / "work" / "quality.json").read_text()) == {"amazon-beauty": FIGURES}


def test_one_dataset_alone_leaves_the_figures_of_the_others(data: Path) -> None:
    (data / "work" / "quality" / "amazon-beauty.json").write_text(json.dumps(FIGURES))
    (data / "work" / "quality.json").write_text(json.dumps({"amazon-beauty": {}, "gowalla": {"seconds": 1.0}}))
    quality.main(data, "amazon-beauty", data / "work")
    written = json.loads((data / "work" / "quality.json").read_text())
    assert written == {"amazon-beauty": FIGURES, "gowalla": {"seconds": 1.0}}


def test_without_any_file_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no dataset was measured"):
        quality.main(tmp_path, None, tmp_path)
    assert not (tmp_path / "quality.json").exists()


def test_ours_stands_where_its_recall_puts_it() -> None:
    published: dict[str, Any] = {
        "source": "made",
        "metrics": ["recall@10", "ndcg@10"],
        "rows": [["worse", 0.06, 0.05], ["better", 0.08, 0.03]],
    }
    console = Console(width=100)
    with console.capture() as shown:
        console.print(quality.table("made", FIGURES, published))
    names = [line.split("│")[1].strip() for line in shown.get().splitlines() if line.startswith("│")]
    assert names == ["worse", "Twinrank, served", "better", "the same, exact search", "refit, served"]
