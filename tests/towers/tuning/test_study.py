"""The search itself, on a made problem whose best settings are known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from towers.schema import ConfigError
from towers.settings import LearningSettings
from towers.training.loop import Epoch, Watcher
from towers.tuning.settings import Choices, Range, TuneSettings
from towers.tuning.space import Space, present, space_of, with_values
from towers.tuning.study import Budget, Found, Search

EPOCHS = 4
TUNE = TuneSettings(folds=2, startup_trials=4, trials_before_pruning=3)
SPACE: Space = {
    "towers.dropout": Range(low=0.0, high=0.5),
    "towers.learning_rate": Range(low=1e-4, high=1e-1, log=True),
    "ranker.hidden": Choices(choices=([64, 32], [128, 64])),
}


class Valley:
    """Best at dropout 0.3; later folds are harder. Epochs approach the score."""

    name = "valley"

    def __init__(self, interrupt: Callable[[int], None] = lambda _: None) -> None:
        self.asked: list[tuple[int, float]] = []
        self.epochs = 0
        self._interrupt = interrupt

    def score(self, settings: LearningSettings, fold: int, watcher: Watcher) -> float:
        self.asked.append((fold, settings.towers.dropout))
        score = (1.0 - abs(settings.towers.dropout - 0.3) - 0.1 * (settings.ranker.hidden[0] == 64)) / (fold + 1)
        for epoch in range(1, EPOCHS + 1):
            self.epochs += 1
            self._interrupt(self.epochs)
            watcher.ended(Epoch("valley", epoch, 1.0, score * epoch / EPOCHS, 0.1, 0.0))
        return score


def search(directory: Path, problem: Valley, trials: int | None = 12, minutes: float = 10, seed: int = 17) -> Found:
    base = with_values(LearningSettings(), {"training.seed": seed})
    made = Search(problem, base, TUNE, SPACE, "data", directory)
    return made.run(Budget(time.monotonic() + 60 * minutes, trials))


def outcome(found: Found) -> list[tuple[object, ...]]:
    return [(trial.values, trial.score, trial.reached, trial.fold_scores) for trial in found.trials]


def test_the_first_trial_is_the_settings_as_they_are_and_its_score_the_mean_over_folds(tmp_path: Path) -> None:
    first = search(tmp_path, Valley()).trials[0]
    assert first.values == {"towers.dropout": 0.1, "towers.learning_rate": 0.002, "ranker.hidden": [64, 32]}
    assert first.fold_scores == pytest.approx((0.7, 0.35))
    assert first.score == pytest.approx(0.525)


def test_the_search_comes_nearer_to_the_best(tmp_path: Path) -> None:
    found = search(tmp_path, Valley(), trials=30)
    assert found.best.score is not None
    assert found.best.score > 0.7  # of 0.75
    assert found.best.values["ranker.hidden"] == [128, 64]
    assert abs(found.best.values["towers.dropout"] - 0.3) < 0.07


def test_hopeless_trials_are_given_up_before_their_last_fold(tmp_path: Path) -> None:
    problem = Valley()
    found = search(tmp_path, problem, trials=20)
    given_up = [trial for trial in found.trials if trial.score is None]
    assert given_up
    assert problem.epochs < 20 * 2 * EPOCHS
    best = found.best.score
    assert best is not None
    assert all(trial.reached < best for trial in given_up)


def test_the_same_seed_asks_the_same_and_another_seed_something_else(tmp_path: Path) -> None:
    first = search(tmp_path / "a", Valley())
    assert outcome(search(tmp_path / "b", Valley())) == outcome(first)
    assert outcome(search(tmp_path / "c", Valley(), seed=18)) != outcome(first)


@pytest.mark.parametrize("epoch", [1, 7, 30])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path: Path, epoch: int) -> None:
    def interrupt(now: int) -> None:
        if now == epoch:
            raise KeyboardInterrupt

    unbroken = search(tmp_path / "unbroken", Valley())
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "broken", Valley(interrupt))
    problem = Valley()
    assert outcome(search(tmp_path / "broken", problem)) == outcome(unbroken)
    assert problem.epochs < 12 * 2 * EPOCHS


def test_a_trial_that_a_killed_process_left_open_is_asked_again(tmp_path: Path) -> None:
    unbroken = search(tmp_path / "unbroken", Valley(), trials=4)
    search(tmp_path / "killed", Valley(), trials=2)
    made = Search(Valley(), LearningSettings(), TUNE, SPACE, "data", tmp_path / "killed")
    made._open().ask()  # and never told
    assert outcome(search(tmp_path / "killed", Valley(), trials=4)) == outcome(unbroken)


def test_a_search_that_is_over_asks_nothing_more(tmp_path: Path) -> None:
    done = search(tmp_path, Valley())
    problem = Valley()
    assert outcome(search(tmp_path, problem)) == outcome(done)
    assert problem.asked == []


def test_other_data_or_settings_begin_a_search_of_their_own(tmp_path: Path) -> None:
    search(tmp_path, Valley())
    assert len(search(tmp_path, Valley(), trials=3, seed=18).trials) == 3


def test_without_time_the_present_settings_are_still_measured(tmp_path: Path) -> None:
    problem = Valley()
    found = search(tmp_path, problem, trials=None, minutes=0)
    assert [fold for fold, _ in problem.asked] == [0, 1]
    assert len(found.trials) == 1


def test_a_trial_that_time_cuts_off_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Valley()
    monkeypatch.setattr(Budget, "spent", lambda _: problem.epochs > 2 * 2 * EPOCHS + 2)
    found = search(tmp_path, problem, trials=None)
    assert len(found.trials) == 2
    assert problem.epochs == 2 * 2 * EPOCHS + 3


def test_what_is_said_has_trial_fold_epoch_and_best(tmp_path: Path) -> None:
    lines: list[str] = []
    Search(Valley(), LearningSettings(), TuneSettings(folds=1), SPACE, "data", tmp_path, lines.append).run(
        Budget(math.inf, 2)
    )
    assert "trial 1, fold 1 of 1, epoch 4: 0.7000; best none yet" in lines
    assert any(line.startswith("trial 2, fold 1 of 1") and line.endswith("best 0.7000") for line in lines)


def test_a_combination_that_the_settings_refuse_is_given_up_and_the_search_goes_on(tmp_path: Path) -> None:
    space: Space = {"towers.heads": Choices(choices=(2, 3)), "towers.dropout": Range(low=0.0, high=0.5)}
    found = Search(Valley(), LearningSettings(), TuneSettings(folds=1), space, "data", tmp_path).run(
        Budget(math.inf, 10)
    )
    assert {trial.score is None for trial in found.trials if trial.values["towers.heads"] == 3} == {True}
    assert any(trial.score is not None for trial in found.trials[1:])


def test_the_space_has_the_parts_settings_and_no_source_that_is_off() -> None:
    settings = with_values(LearningSettings(), {"candidates.item_item": 50})
    towers, sources, ranker = (space_of(part, settings, TuneSettings()) for part in ("towers", "sources", "ranker"))
    assert {path.split(".")[0] for path in towers} == {"towers", "features"}
    assert {path.split(".")[1] for path in sources} == {"item_item"}
    assert {path.split(".")[0] for path in ranker} == {"ranker"}


def test_every_entry_of_the_built_in_space_is_a_setting_that_takes_its_values() -> None:
    from towers.tuning.space import BUILT_IN

    for path, dimension in BUILT_IN.items():
        assert present(LearningSettings(), path) is not None
        values = dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
        for value in values:
            with_values(LearningSettings(), {path: value})


def test_the_shops_space_replaces_adds_and_leaves_out() -> None:
    tune = TuneSettings.model_validate(
        {
            "space": {
                "towers.dropout": {"low": 0.2, "high": 0.4},
                "towers.gradient_norm_max": {"choices": [1.0, 5.0]},
                "towers.blocks": False,
            }
        }
    )
    space = space_of("towers", LearningSettings(), tune)
    assert space["towers.dropout"] == Range(low=0.1, high=0.4)  # the present 0.1 is taken in
    assert space["towers.gradient_norm_max"] == Choices(choices=(1.0, 5.0))
    assert "towers.blocks" not in space


def test_the_training_page_names_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    assert [key for key in TuneSettings.model_fields if f"`{key}`" not in page] == []


@pytest.mark.parametrize(
    ("path", "dimension", "message"),
    [
        ("towers.dropuot", {"low": 0.1, "high": 0.2}, r"no setting 'towers\.dropuot'"),
        ("towers", {"low": 0.1, "high": 0.2}, "'towers' is a section"),
        ("training.seed", {"low": 1, "high": 9}, r"'training\.seed' is of no part"),
        ("ranker.cuts", {"low": 1, "high": 9}, r"'ranker\.cuts' decides what the trials are judged by"),
        ("towers.dropout", {"low": 0.1, "high": 1.5}, r"'towers\.dropout' may not be 1\.5"),
        ("towers.positives", {"low": 1, "high": 2}, r"'towers\.positives' may not be 1"),
    ],
)
def test_a_wrong_entry_of_the_space_is_an_error_that_names_it(
    path: str, dimension: dict[str, float], message: str
) -> None:
    tune = TuneSettings.model_validate({"space": {path: dimension}})
    with pytest.raises(ConfigError, match=message):
        space_of("towers", LearningSettings(), tune)
