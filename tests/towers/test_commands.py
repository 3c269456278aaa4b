"""`python -m towers`: ingest, train and evaluate the small shop, as an ML engineer would."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from towers.__main__ import main
from towers.model import read_model


@pytest.fixture
def shop_file(small_shop_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small shop whose last days are for testing, in a directory of its own."""
    text = small_shop_config.read_text(encoding="utf-8")
    for name in ("events.csv", "items.csv", "users.csv"):
        text = text.replace(f'"{name}"', f'"{small_shop_config.parent / name}"')
    shorter = "[training]\ntrain_end = 2026-10-19T00:00:00Z"
    file = tmp_path / "shop.toml"
    file.write_text(text.replace("[training]", shorter), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return file


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of the command in this process, so that torch is not imported again."""
    monkeypatch.setattr(sys, "argv", ["towers", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code if isinstance(leaving.value.code, int) else 0


def test_train_before_ingest_is_one_line(
    shop_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", str(shop_file)) == 1
    assert "no dataset here" in capsys.readouterr().err


def test_the_whole_chain_from_files_to_figures(
    shop_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(shop_file)
    assert run(monkeypatch, "ingest", config) == 0
    assert run(monkeypatch, "evaluate", config) == 1
    errors = capsys.readouterr().err
    assert "no trained model" in errors
    assert "Traceback" not in errors

    assert run(monkeypatch, "train", config) == 0
    model = read_model(Path("var/small/run/model"))
    assert model.ranker_until_s == 1_792_368_000  # 2026-10-19T00:00:00Z
    assert torch.isfinite(model.ranker.out.weight).all()

    assert run(monkeypatch, "evaluate", config, "--json", "figures.json") == 0
    printed = capsys.readouterr().out
    assert "twinrank" in printed
    figures = json.loads(Path("figures.json").read_text(encoding="utf-8"))
    assert len(figures) >= 2


def test_a_log_too_short_to_learn_from_is_one_line(
    shop_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop_file.write_text(shop_file.read_text(encoding="utf-8").replace("cut_every_days = 7", "cut_every_days = 80"))
    assert run(monkeypatch, "ingest", str(shop_file)) == 0
    assert run(monkeypatch, "train", str(shop_file)) == 1
    errors = capsys.readouterr().err
    assert "the log is too short" in errors
    assert "Traceback" not in errors
