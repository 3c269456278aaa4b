from __future__ import annotations

import json
import math
from pathlib import Path

from towers.training.loop import Epoch
from towers.training.record import RunRecord, draw_curves, read_epochs


def epoch(task: str, number: int, score: float = 0.5) -> Epoch:
    return Epoch(task, number, 1.0 / number, score, 0.01, 2.0)


def written(directory: Path, *epochs: Epoch) -> RunRecord:
    record = RunRecord(directory)
    record.open({"fingerprint": "a"}, going_on=False)
    for each in epochs:
        record.ended(each)
    return record


def test_epochs_are_read_as_they_were_written(tmp_path: Path) -> None:
    written(tmp_path / "run", epoch("towers", 1), epoch("towers", 2, math.nan))
    first, second = read_epochs(tmp_path / "run")
    assert first == epoch("towers", 1)
    assert math.isnan(second.score)
    assert json.loads((tmp_path / "run" / "epochs.jsonl").read_text("utf-8").splitlines()[1])["score"] is None


def test_a_task_that_goes_on_loses_the_lines_of_epochs_that_are_run_again(tmp_path: Path) -> None:
    record = written(tmp_path, epoch("towers", 1), epoch("towers", 2), epoch("ranker", 1))
    record.begun("towers", 1)
    assert [(each.task, each.number) for each in read_epochs(tmp_path)] == [("towers", 1), ("ranker", 1)]


def test_a_line_that_a_kill_halved_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, epoch("towers", 1), epoch("towers", 2))
    file = tmp_path / "epochs.jsonl"
    file.write_text(file.read_text("utf-8")[:-20], "utf-8")
    assert [each.number for each in read_epochs(tmp_path)] == [1]


def test_only_an_interrupted_run_of_the_same_fingerprint_is_continued(tmp_path: Path) -> None:
    record = written(tmp_path, epoch("towers", 1))
    record.open({"fingerprint": "a"}, going_on=True)
    assert len(read_epochs(tmp_path)) == 1
    record.close({"seconds": 3})
    record.open({"fingerprint": "b"}, going_on=True)
    assert read_epochs(tmp_path) == []
    assert not (tmp_path / "metrics.json").exists()
    assert json.loads((tmp_path / "run.json").read_text("utf-8")) == {"fingerprint": "b"}


def test_curves_are_drawn_also_where_nothing_was_validated(tmp_path: Path) -> None:
    written(tmp_path, *(epoch("towers", number) for number in (1, 2, 3)), epoch("refit", 1, math.nan))
    assert draw_curves(tmp_path).read_bytes().startswith(b"\x89PNG")
