"""`python -m towers tune` on the small shop: what it may know, and what it leaves behind."""

from __future__ import annotations

import csv
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.towers.exact_retriever import SortingRetriever
from towers.__main__ import app
from towers.schema import ConfigError, Dataset, LogTooShortError, ShopConfig
from towers.settings import LearningSettings
from towers.tuning.known import known_before
from towers.tuning.run import Tuning
from towers.tuning.settings import TuneSettings
from towers.tuning.space import with_values
from towers.tuning.study import Found

DAY_S = 86_400
TUNE = TuneSettings.model_validate(
    {
        "folds": 2,
        "space": {
            "towers.dimension": False,
            "towers.uniform_negatives": False,
            "towers.batch_size": False,
            "features.sequence_events_max": {"choices": [6, 12]},
            "towers.encoder": False,
            "ranker.batch_size": False,
            "ranker.loss": False,
            "ranker.hidden": {"choices": [[16, 8], [8, 4]]},
        },
    }
)


@pytest.fixture(scope="module")
def settings(small_shop: ShopConfig, small_dataset: Dataset) -> LearningSettings:
    """One epoch of everything; the last ten days are for testing; a single cut, so that two folds fit."""
    return with_values(
        small_shop.learning,
        {
            "towers.epochs_max": 1,
            "towers.batch_size": 64,
            "ranker.epochs_max": 2,
            "ranker.cuts": 1,
            "candidates.item_item": 8,
            "training.train_end": datetime.fromtimestamp(small_dataset.meta.last_time_s - 10 * DAY_S, UTC),
        },
    )


def tuned(
    dataset: Dataset, settings: LearningSettings, directory: Path, part: str = "all", tune: TuneSettings = TUNE
) -> list[Found]:
    return Tuning(dataset, settings, tune, SortingRetriever, directory).run(part, minutes=10, trials_max=2)


def poisoned(dataset: Dataset, end_s: int) -> Dataset:
    """Another future: from the moment on, everyone buys other things, twice as much, at other times."""
    events, random = dataset.events, np.random.default_rng(0)
    later = events.time_s >= end_s
    order = np.argsort(np.concatenate([events.user_row, events.user_row[later]]), kind="stable")

    def doubled(values: np.ndarray, other: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[later] = other
        return np.concatenate([changed, other])[order]

    columns = {name: getattr(events, name) for name in events.__dataclass_fields__ if name != "context"}
    columns = {name: doubled(column, column[later]) for name, column in columns.items()}
    columns["item_row"] = doubled(events.item_row, random.integers(0, dataset.item_count, later.sum()))
    columns["event_type"] = doubled(events.event_type, np.full(later.sum(), 3))
    context = {name: doubled(column, column[later]) for name, column in events.context.items()}
    meta = dataset.meta.model_copy(update={"last_time_s": dataset.meta.last_time_s + 99 * DAY_S})
    return replace(dataset, meta=meta, events=replace(events, **columns, context=context))


def outcome(found: list[Found]) -> list[tuple[object, ...]]:
    return [(search.name, trial.values, trial.fold_scores) for search in found for trial in search.trials]


@pytest.fixture(scope="module")
def of_all(
    small_dataset: Dataset, settings: LearningSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Found], Path]:
    directory = tmp_path_factory.mktemp("tune")
    return tuned(small_dataset, settings, directory), directory


def test_every_part_is_tuned_and_judged_on_every_fold(of_all: tuple[list[Found], Path]) -> None:
    found, _ = of_all
    assert [search.name for search in found] == ["towers", "sources.item_item", "ranker"]
    for search in found:
        assert len(search.trials) == 2
        assert len(search.trials[0].fold_scores) == 2
        assert all(0 < score < 1 for score in search.trials[0].fold_scores)


def test_nothing_at_or_after_the_end_is_read(
    of_all: tuple[list[Found], Path], small_dataset: Dataset, settings: LearningSettings, tmp_path: Path
) -> None:
    """The same scores, to the last bit, whatever comes later; a second earlier, and they are others."""
    assert settings.training.train_end is not None
    end_s = int(settings.training.train_end.timestamp())
    future = poisoned(small_dataset, end_s)
    assert outcome(tuned(future, settings, tmp_path / "future")) == outcome(of_all[0])
    past = poisoned(small_dataset, end_s - 20 * DAY_S)
    assert outcome(tuned(past, settings, tmp_path / "past", "ranker")) != outcome(of_all[0])[-2:]


def test_the_known_dataset_ends_before_the_end(small_dataset: Dataset) -> None:
    end_s = int(np.sort(small_dataset.events.time_s)[400])
    known = known_before(small_dataset, end_s)
    assert known.events.time_s.max() < end_s
    assert len(known.events) == known.meta.counts.rows == (small_dataset.events.time_s < end_s).sum()
    assert known.meta.last_time_s == known.events.time_s.max()
    with pytest.raises(LogTooShortError, match=r"no event lies before training\.train_end, 2026-08-0"):
        known_before(small_dataset, small_dataset.meta.first_time_s)


def test_the_rankers_trials_share_towers_and_cuts(
    of_all: tuple[list[Found], Path],
    small_dataset: Dataset,
    settings: LearningSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One training of towers and one set of cuts a fold, however many trials; a later process trains none."""
    from towers.training.run import TrainingRun
    from towers.training.tower_task import TowerTask

    found, directory = of_all
    assert len(list(directory.glob("fold *-towers.safetensors"))) == 2
    cuts, trained = [], []
    cut, losses = TrainingRun._cut, TowerTask.losses
    monkeypatch.setattr(TrainingRun, "_cut", lambda self, label, *rest: cuts.append(label) or cut(self, label, *rest))
    monkeypatch.setattr(TowerTask, "losses", lambda self, epoch: trained.append(epoch) or losses(self, epoch))
    best = settings
    for search in found[:-1]:
        best = with_values(best, search.best.values)
    more = Tuning(small_dataset, best, TUNE, SortingRetriever, directory).run("ranker", minutes=10, trials_max=4)
    assert outcome(more)[:2] == outcome(found)[-2:]
    assert len(more[0].trials) == 4
    assert len(cuts) == 2 * (settings.ranker.cuts + 1)
    assert trained == []


def test_a_fold_before_the_logs_beginning_is_one_line(
    small_dataset: Dataset, settings: LearningSettings, tmp_path: Path
) -> None:
    tune = TUNE.model_copy(update={"folds": 12})
    with pytest.raises(LogTooShortError):
        tuned(small_dataset, settings, tmp_path, "towers", tune)


def test_nothing_to_tune_is_an_error(small_dataset: Dataset, settings: LearningSettings, tmp_path: Path) -> None:
    off = with_values(settings, {"candidates.item_item": 0})
    with pytest.raises(ConfigError, match="nothing to tune in sources"):
        tuned(small_dataset, off, tmp_path, "sources")


def test_the_command_writes_settings_that_a_shop_can_merge(
    small_shop: ShopConfig, small_shop_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = small_shop_config.read_text(encoding="utf-8").replace("var/small", str(small_shop.shop.work_dir))
    shop = tmp_path / "shop.toml"
    shop.write_text(text.replace("epochs_max = 10", "epochs_max = 1").replace("cuts = 2", "cuts = 1"), encoding="utf-8")
    out = tmp_path / "best.toml"
    arguments = ["tune", str(shop), "--minutes", "5", "--trials", "2", "--part", "ranker", "--folds", "1"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "as it was" in result.output
    best = tomllib.loads(out.read_text(encoding="utf-8"))
    assert {"hidden", "learning_rate", "weight_decay", "batch_size", "epochs_max"} <= set(best["ranker"])
    merged = with_values(small_shop.learning, {f"ranker.{key}": value for key, value in best["ranker"].items()})
    assert merged.ranker.learning_rate == best["ranker"]["learning_rate"]
    directory = small_shop.run_dir / "tune"
    rows = list(csv.DictReader((directory / "ranker.csv").read_text("utf-8").splitlines()))
    assert [row["trial"] for row in rows] == ["1", "2"]
    assert (directory / "ranker.png").read_bytes().startswith(b"\x89PNG")
