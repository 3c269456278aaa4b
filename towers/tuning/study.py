"""One search: trials asked of a seeded sampler, judged fold by fold, given up when hopeless, kept in a journal.

A trial's intermediate value is the sum of its scores so far: over the folds that are over, plus the best epoch of the
running one. It only grows, so that trials can be compared at the same epoch of the same fold. The sampler is seeded
anew for each trial by the number of those that ended, so an interrupted search goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import ValidationError

from towers.settings import LearningSettings
from towers.training.loop import Epoch
from towers.tuning.problems import Problem
from towers.tuning.settings import TuneSettings
from towers.tuning.space import Space, fixed, suggest, with_values

STEPS_PER_FOLD = 1_000
"""Epochs of fold f are reported as steps f · 1,000 + epoch, its end as the last of these."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class OutOfTime(Exception):
    """The budget was spent in the middle of a trial, which does not count then."""


@dataclass(frozen=True)
class Budget:
    """When a search ends: `deadline_s` on the monotonic clock, or after `trials_max` ended trials in all."""

    deadline_s: float
    trials_max: int | None

    def spent(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.deadline_s


@dataclass(frozen=True)
class TrialResult:
    """One ended trial: its values, the score (mean over folds; None when given up), and what it had reached by then."""

    number: int
    values: dict[str, Any]
    score: float | None
    reached: float
    fold_scores: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a search found: all ended trials in order, the first being the present settings."""

    name: str
    folds: int
    space: Space
    trials: list[TrialResult]

    @property
    def best(self) -> TrialResult:
        """The trial of the highest score; of equal ones the first."""
        measured = [trial for trial in self.trials if trial.score is not None]
        return max(measured, key=lambda trial: (trial.score, -trial.number))


@dataclass
class Search:
    """Searches a space for settings that score well.

    Attributes:
        problem: scores settings. base: what stays as it is. space: what is tried. fingerprint: of the data.
        directory: keeps the journals. show: told of a trial's state in a few words, at every epoch.
    """

    problem: Problem
    base: LearningSettings
    tune: TuneSettings
    space: Space
    fingerprint: str
    directory: Path
    show: Callable[[str], None] = field(default=lambda _: None)

    def run(self, budget: Budget) -> Found:
        """Tries settings until the budget is spent; the first trial, the present settings, always ends."""
        study = self._open()
        while True:
            ended = _ended(study)
            if budget.trials_max is not None and len(ended) >= budget.trials_max:
                break
            if ended and budget.spent():
                break
            study.sampler = self._sampler(len(ended))
            if not ended and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                study.enqueue_trial(fixed(self.space, self.base))
            try:
                self._try(study, budget, first=not ended)
            except OutOfTime:
                break
        return self._found(study)

    def _open(self) -> optuna.Study:
        """The journal's study, or a new one; a trial that a killed process left is closed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.directory / f"{self.problem.name}.journal"))),
            study_name=self._study_name(),
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=self.tune.trials_before_pruning),
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        return study

    def _study_name(self) -> str:
        """Trials of other data, settings, space or folds are another study of the same journal."""
        about = [self.fingerprint, self.base.model_dump_json(), self.tune.model_dump_json(), sorted(self.space)]
        return f"{self.problem.name}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}"

    def _sampler(self, ended_count: int) -> optuna.samplers.BaseSampler:
        seed = self.base.training.seed * 100_003 + ended_count
        return optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=self.tune.startup_trials)

    def _try(self, study: optuna.Study, budget: Budget, first: bool) -> None:
        trial = study.ask()
        started = time.monotonic()
        try:
            settings = with_values(self.base, suggest(trial, self.space))
        except ValidationError as error:
            trial.set_user_attr("refused", str(error.errors(include_url=False)[0]["msg"]))
            study.tell(trial, state=TrialState.PRUNED)
            return
        best = max((result.score for result in self._found(study).trials if result.score is not None), default=None)
        judge = _Judge(trial, self.problem, self.tune.folds, None if first else budget, self._line(trial.number, best))
        try:
            score = judge.score(settings)
        except optuna.TrialPruned:
            trial.set_user_attr("seconds", time.monotonic() - started)
            study.tell(trial, state=TrialState.PRUNED)
        except BaseException:
            study.tell(trial, state=TrialState.FAIL)
            raise
        else:
            trial.set_user_attr("seconds", time.monotonic() - started)
            study.tell(trial, score)

    def _line(self, number: int, best: float | None) -> Callable[[str], None]:
        so_far = "none yet" if best is None else f"{best:.4f}"
        return lambda state: self.show(f"trial {number + 1}, {state}; best {so_far}")

    def _found(self, study: optuna.Study) -> Found:
        return Found(self.problem.name, self.tune.folds, self.space, [self._result(trial) for trial in _ended(study)])

    def _result(self, trial: optuna.trial.FrozenTrial) -> TrialResult:
        values = suggest(optuna.trial.FixedTrial(trial.params), self.space)  # type: ignore[arg-type]
        reached = max(trial.intermediate_values.values(), default=0.0)
        return TrialResult(
            trial.number,
            values,
            trial.value if trial.state is TrialState.COMPLETE else None,
            reached / self.tune.folds,
            tuple(trial.user_attrs.get("fold_scores", ())),
            float(trial.user_attrs.get("seconds", 0.0)),
        )


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=ENDED)


@dataclass
class _Judge:
    """Scores one trial fold by fold; a `Watcher` of the trainings within. Without a budget nothing ends it."""

    trial: optuna.Trial
    problem: Problem
    folds: int
    budget: Budget | None
    show: Callable[[str], None]
    scores: list[float] = field(default_factory=list)
    best_of_fold: float = 0.0

    def score(self, settings: LearningSettings) -> float:
        """The mean over folds. Raises TrialPruned and OutOfTime."""
        for fold in range(self.folds):
            self.best_of_fold = 0.0
            self.show(f"fold {fold + 1} of {self.folds}")
            self.scores.append(self.problem.score(settings, fold, self))
            self.trial.set_user_attr("fold_scores", self.scores)
            self._report(sum(self.scores), (fold + 1) * STEPS_PER_FOLD - 1, last=fold + 1 == self.folds)
        return sum(self.scores) / self.folds

    def begun(self, task: str, epochs_done: int) -> None:
        """See `Watcher`."""

    def ended(self, epoch: Epoch) -> None:
        """See `Watcher`."""
        self.best_of_fold = max(self.best_of_fold, epoch.score)
        fold = len(self.scores)
        self.show(f"fold {fold + 1} of {self.folds}, epoch {epoch.number}: {epoch.score:.4f}")
        self._report(sum(self.scores) + self.best_of_fold, fold * STEPS_PER_FOLD + epoch.number - 1, last=False)

    def _report(self, total: float, step: int, last: bool) -> None:
        self.trial.report(total, step)
        if last:
            return
        if self.budget is not None and self.budget.spent():
            raise OutOfTime
        if self.budget is not None and self.trial.should_prune():
            raise optuna.TrialPruned
