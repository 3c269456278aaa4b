"""The whole training on the small shop, by few epochs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from tests.conftest import SmallModel
from tests.towers.exact_retriever import SortingRetriever
from towers.model import RANKER_FILE, TOWERS_FILE, TrainedModel, read_model
from towers.schema import Dataset, LogTooShortError, ShopConfig
from towers.settings import LearningSettings
from towers.training import run as module
from towers.training.loop import Epoch
from towers.training.record import RunRecord, read_epochs
from towers.training.run import TrainingRun, choose_device, choose_precision

DAY_S = 86_400


@pytest.fixture(scope="module")
def settings(small_shop: ShopConfig) -> LearningSettings:
    """The small shop's settings with two epochs of everything."""
    learning = small_shop.learning
    return learning.model_copy(
        update={
            "towers": learning.towers.model_copy(update={"epochs_max": 2, "batch_size": 64}),
            "ranker": learning.ranker.model_copy(update={"epochs_max": 2}),
        }
    )


def run_of(dataset: Dataset, settings: LearningSettings, directory: Path) -> TrainingRun:
    return TrainingRun(dataset, settings, SortingRetriever, directory, Progress(disable=True), lambda _: None)


def weights(model: TrainedModel) -> tuple[bytes, bytes]:
    files = model.files()
    return files[TOWERS_FILE], files[RANKER_FILE]


@pytest.fixture(scope="module")
def unbroken_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unbroken")


@pytest.fixture(scope="module")
def unbroken(small_dataset: Dataset, settings: LearningSettings, unbroken_dir: Path) -> TrainedModel:
    return run_of(small_dataset, settings, unbroken_dir).run()


def ending(settings: LearningSettings, moment_s: int) -> LearningSettings:
    training = settings.training.model_copy(update={"train_end": datetime.fromtimestamp(moment_s, UTC)})
    return settings.model_copy(update={"training": training})


def test_the_small_shops_model_says_how_well_it_did(small_model: SmallModel) -> None:
    model = read_model(small_model.model_dir)
    validation = model.metrics["validation"]
    assert {"auc", "log_loss", "calibration_error", "calibration", "ndcg@20_of_candidates"} <= set(validation)
    assert 0 < validation["ndcg@20"] < 1
    assert 0 < validation["ndcg@20_new_only"] < 1
    assert validation["log_loss"] < math.log(2)
    assert {"buys_again_auc", "value_rmse", "rating_rmse", "rating_mae"} <= set(validation)
    assert validation["rating_mae"] <= validation["rating_rmse"] < 4  # stars from 1 to 5
    reliability = model.metrics["reliability"]
    assert len(reliability["said"]) == len(reliability["came"]) == 10
    assert (small_model.config.run_dir / "reliability.png").is_file()
    assert len(model.metrics["towers"]["history"]) >= model.metrics["towers"]["epochs"]


def test_the_towers_end_where_the_earliest_cut_begins(unbroken: TrainedModel, small_dataset: Dataset) -> None:
    end_s = small_dataset.meta.last_time_s + 1
    assert unbroken.ranker_until_s == end_s
    assert unbroken.towers_until_s == end_s - (14 + 7) * DAY_S  # the horizon, and one more cut


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    unbroken: TrainedModel, small_dataset: Dataset, settings: LearningSettings, tmp_path: Path
) -> None:
    torch.manual_seed(123)  # whatever was drawn before
    again = run_of(small_dataset, settings, tmp_path / "again").run()
    assert weights(again) == weights(unbroken)
    assert again.metrics | {"seconds": 0} == unbroken.metrics | {"seconds": 0}
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": 8})})
    assert weights(run_of(small_dataset, other, tmp_path / "other").run())[0] != weights(unbroken)[0]


@pytest.mark.parametrize("stage", [0, 2, 4])
def test_an_interrupted_training_goes_on_and_ends_with_the_same_weights(
    unbroken: TrainedModel,
    small_dataset: Dataset,
    settings: LearningSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: int,
) -> None:
    """Stages 0 to 2 are the cuts of the tuning phase, after its towers; 3 and 4 those of the refit."""
    cut = TrainingRun._cut
    calls = 0

    def interrupted(self: TrainingRun, *args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == stage + 1:
            raise KeyboardInterrupt
        return cut(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingRun, "_cut", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_of(small_dataset, settings, tmp_path).run()
    assert any((tmp_path / "checkpoints").iterdir())
    monkeypatch.undo()
    torch.manual_seed(321)
    assert weights(run_of(small_dataset, settings, tmp_path).run()) == weights(unbroken)
    assert not (tmp_path / "checkpoints").exists()


def test_an_interrupted_ranker_goes_on_and_ends_with_the_same_weights(
    unbroken: TrainedModel,
    small_dataset: Dataset,
    settings: LearningSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "calibrate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_of(small_dataset, settings, tmp_path).run()
    monkeypatch.undo()
    assert weights(run_of(small_dataset, settings, tmp_path).run()) == weights(unbroken)


@pytest.mark.parametrize("task", ["validate: towers", "validate: ranker", "refit: towers", "refit: ranker"])
def test_a_run_killed_between_two_epochs_goes_on_and_ends_with_the_same_numbers(
    unbroken: TrainedModel,
    unbroken_dir: Path,
    small_dataset: Dataset,
    settings: LearningSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    """In every task of both phases, after its first epoch: the same weights, figures and recorded epochs."""
    ended = RunRecord.ended

    def killed(self: RunRecord, epoch: Epoch) -> None:
        ended(self, epoch)
        if (epoch.task, epoch.number) == (task, 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "ended", killed)
    with pytest.raises(KeyboardInterrupt):
        run_of(small_dataset, settings, tmp_path).run()
    monkeypatch.undo()
    before = read_epochs(tmp_path)
    assert (before[-1].task, before[-1].number) == (task, 1)
    torch.manual_seed(55)
    resumed = run_of(small_dataset, settings, tmp_path).run()
    assert weights(resumed) == weights(unbroken)
    assert resumed.metrics | {"seconds": 0} == unbroken.metrics | {"seconds": 0}
    after = read_epochs(tmp_path)
    assert after[: len(before)] == before  # their seconds too: they were not run again
    assert [timeless(epoch) for epoch in after] == [timeless(epoch) for epoch in read_epochs(unbroken_dir)]


def timeless(epoch: Epoch) -> str:
    return str(replace(epoch, seconds=0.0))  # as text, in which NaN equals NaN


def test_the_run_directory_says_how_the_model_came_about(
    unbroken: TrainedModel, unbroken_dir: Path, settings: LearningSettings
) -> None:
    about = json.loads((unbroken_dir / "run.json").read_text("utf-8"))
    assert about["seed"] == 7
    assert about["settings"] == settings.model_dump(mode="json")
    assert (about["device"], about["precision"], about["processes"]) == ("cpu", "float32", 1)
    assert {"python", "torch", "numpy"} <= set(about["versions"])
    assert json.loads((unbroken_dir / "metrics.json").read_text("utf-8")) == unbroken.metrics
    epochs = read_epochs(unbroken_dir)
    tasks = list(dict.fromkeys(epoch.task for epoch in epochs))
    assert tasks == ["validate: towers", "validate: ranker", "refit: towers", "refit: ranker"]
    scores = [epoch.score for epoch in epochs if epoch.task == "validate: towers"]
    assert scores == [score for _, score in unbroken.metrics["towers"]["history"]]
    assert all(math.isnan(epoch.score) for epoch in epochs if epoch.task.startswith("refit"))


def test_bfloat16_trains_other_weights_of_float32_to_nearly_the_same_loss(
    unbroken_dir: Path, small_dataset: Dataset, settings: LearningSettings, tmp_path: Path
) -> None:
    half = settings.model_copy(update={"training": settings.training.model_copy(update={"precision": "bfloat16"})})
    model = run_of(small_dataset, half, tmp_path).run()
    states = (model.item_tower, model.user_tower, model.ranker)
    assert {value.dtype for part in states for value in part.parameters()} == {torch.float32}
    losses, expected = ([epoch.loss for epoch in read_epochs(directory)] for directory in (tmp_path, unbroken_dir))
    assert losses[0] != expected[0]
    assert losses[0] == pytest.approx(expected[0], rel=0.02)
    assert losses[-1] == pytest.approx(expected[-1], rel=0.1)


def test_automatic_precision_is_half_on_cuda_alone() -> None:
    assert choose_precision("auto", torch.device("cpu")) == torch.float32
    assert choose_precision("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_precision("float32", torch.device("cuda")) == torch.float32
    assert choose_precision("bfloat16", torch.device("cpu")) == torch.bfloat16


def test_nothing_is_learned_from_events_at_or_after_the_end(
    small_dataset: Dataset, settings: LearningSettings, tmp_path: Path
) -> None:
    """The model is the same when those events do not exist."""
    end_s = small_dataset.meta.last_time_s - 10 * DAY_S
    events = small_dataset.events
    past = events.time_s < end_s
    columns = {name: getattr(events, name)[past] for name in events.__dataclass_fields__ if name != "context"}
    context = {name: column[past] for name, column in events.context.items()}
    cut_off = replace(small_dataset, events=replace(events, **columns, context=context))
    assert 0 < len(cut_off.events) < len(events)
    early = ending(settings, end_s)
    with_future = run_of(small_dataset, early, tmp_path / "with").run()
    without = run_of(cut_off, early, tmp_path / "without").run()
    assert weights(with_future) == weights(without)
    assert with_future.metrics | {"seconds": 0} == without.metrics | {"seconds": 0}


def test_a_validation_period_without_events_leaves_its_figures_empty(
    small_dataset: Dataset, settings: LearningSettings, tmp_path: Path
) -> None:
    model = run_of(small_dataset, ending(settings, small_dataset.meta.last_time_s + 14 * DAY_S), tmp_path).run()
    validation = model.metrics["validation"]
    assert validation["auc"] is None
    assert validation["ndcg@20_of_candidates"] is None
    assert "ndcg@20" not in validation
    assert validation["calibration"] == [1.0, 0.0]
    assert model.metrics["ranker"]["epochs"] == 2
    model.write(tmp_path / "model")
    assert weights(read_model(tmp_path / "model")) == weights(model)


@pytest.mark.parametrize("days", [40, 49])
def test_a_log_too_short_for_the_cuts_is_an_error_that_names_the_settings(
    small_dataset: Dataset, settings: LearningSettings, tmp_path: Path, days: int
) -> None:
    short = ending(settings, small_dataset.meta.first_time_s + 35 * DAY_S)
    short = short.model_copy(update={"ranker": settings.ranker.model_copy(update={"cut_every_days": days})})
    with pytest.raises(
        LogTooShortError, match=r"ranker\.cuts, cut_every_days, horizon_days and training\.validation_days"
    ):
        run_of(small_dataset, short, tmp_path).run()


def test_a_device_that_is_not_there_is_an_error() -> None:
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(ValueError, match=r"training\.device is cuda, but torch sees no CUDA device"):
            choose_device("cuda")


def test_the_ranker_keeps_the_tuned_calibration(unbroken: TrainedModel) -> None:
    slope, offset = unbroken.metrics["validation"]["calibration"]
    np.testing.assert_allclose(unbroken.ranker.calibration.numpy(), [slope, offset], rtol=1e-6)
