"""What is searched for, part by part: a problem scores settings on one fold, a validation period before `train_end`.

    fold 0      … towers | cuts and their horizon | validation ┤ train_end
    fold 1      the same, one validation period earlier

towers      recall of later visits, as early stopping sees it
a source    Recall@its depth, alone, of what is bought within the horizon after the validation period begins
ranker      NDCG@20 among the held-out cut's candidates; towers are trained, and cuts asked, once for all trials
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.progress import Progress

from towers.candidates import Exclusions
from towers.learning_data import LearningData, encode, fit_encoders, retrievable_items
from towers.model import ranker_shape
from towers.models.ranker import Ranker
from towers.schema import Dataset, LogTooShortError
from towers.settings import LearningSettings
from towers.sources.base import CandidateSource, Shown, SourceRequest
from towers.sources.log import SourceLog
from towers.sources.registry import fit_sources
from towers.training.cuts import (
    DAY_S,
    USERS_PER_BATCH,
    RetrieverFactory,
    bought_between,
    last_context,
    shoppers_at,
    users_before,
)
from towers.training.loop import Checkpoint, Watcher
from towers.training.run import Examples, TrainingRun


class Problem(Protocol):
    """One search: what it is called, and what settings are worth."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def score(self, settings: LearningSettings, fold: int, watcher: Watcher) -> float:
        """The score on a fold, higher is better; the watcher hears of every epoch, where there are epochs."""
        ...


@dataclass(frozen=True)
class Known:
    """What all problems share.

    Attributes:
        dataset: without anything from `end_s` on. end_s: `train_end`.
        retrievers: the search that candidates come from. directory: for the towers that the ranker's trials share.
    """

    dataset: Dataset
    end_s: int
    retrievers: RetrieverFactory
    directory: Path
    say: Callable[[str], None]

    def validation_begin_s(self, settings: LearningSettings, fold: int) -> int:
        """Where a fold's validation period begins."""
        return self.end_s - (fold + 1) * settings.training.validation_days * DAY_S


class _FoldRun(TrainingRun):
    """A training of one fold, with checkpoints only where they are shared."""

    checkpoint_as: str | None = None

    def _checkpoint(self, phase: str, model: str) -> Checkpoint | None:
        if self.checkpoint_as is None or model != "towers":
            return None
        return Checkpoint(self.directory / f"{phase}-{model}.safetensors", self.checkpoint_as)

    def towers_score(self, validation_begin_s: int) -> float:
        """The towers' score, trained until where the training of this fold would end them."""
        ranker = self.settings.ranker
        back_days = ranker.horizon_days
        if self.settings.training.towers_end == "first_cut":
            back_days += (ranker.cuts - 1) * ranker.cut_every_days
        return self._stage("towers", validation_begin_s - back_days * DAY_S, None).result.score

    def ranker_score(self, examples: Examples) -> float:
        """The ranker's score on examples that are there."""
        torch.manual_seed(self.settings.training.seed)
        model = Ranker(ranker_shape(self.settings))
        return self._fit_ranker("ranker", model, examples.cuts, examples.held_out, None).score


def _fold_run(known: Known, settings: LearningSettings, watcher: Watcher | None) -> _FoldRun:
    run = _FoldRun(known.dataset, settings, known.retrievers, known.directory, Progress(disable=True), known.say)
    run._watcher = watcher
    return run


def _measured(score: float, what: str, fold: int) -> float:
    if math.isnan(score):
        raise LogTooShortError(
            f"fold {fold} of tune.folds: the log is too short for it, there is nothing to judge {what} by"
        )
    return score


@dataclass(frozen=True)
class TowersProblem:
    """The towers, by recall of later visits."""

    known: Known
    name: str = "towers"

    def score(self, settings: LearningSettings, fold: int, watcher: Watcher) -> float:
        """See `Problem.score`."""
        run = _fold_run(self.known, settings, watcher)
        return _measured(run.towers_score(self.known.validation_begin_s(settings, fold)), "the towers", fold)


@dataclass(frozen=True)
class RankerProblem:
    """The ranker, by NDCG@20 among the candidates of `base`'s towers and sources."""

    known: Known
    base: LearningSettings
    name: str = "ranker"
    _examples: dict[int, Examples] = field(default_factory=dict)

    def score(self, settings: LearningSettings, fold: int, watcher: Watcher) -> float:
        """See `Problem.score`."""
        score = _fold_run(self.known, settings, watcher).ranker_score(self.examples(fold))
        return _measured(score, "the ranker", fold)

    def examples(self, fold: int) -> Examples:
        """The fold's cuts, made once; their towers are kept on disk too, and found again by a later process."""
        if fold not in self._examples:
            run = _fold_run(self.known, self.base, None)
            run.checkpoint_as = run._fingerprint
            begin_s = self.known.validation_begin_s(self.base, fold)
            self._examples[fold] = run._examples(f"fold {fold}", begin_s, True, None)
        return self._examples[fold]


@dataclass
class SourceProblem:
    """One further source alone, by Recall@depth of what its users buy next."""

    known: Known
    base: LearningSettings
    source: str
    new_only: bool

    def __post_init__(self) -> None:
        self._data: dict[int, LearningData] = {}

    @property
    def name(self) -> str:
        """One search a source."""
        return f"sources.{self.source}"

    def score(self, settings: LearningSettings, fold: int, watcher: Watcher) -> float:  # noqa: ARG002
        """See `Problem.score`."""
        begin_s = self.known.validation_begin_s(settings, fold)
        if fold not in self._data:
            encoders = fit_encoders(self.known.dataset, self.base, begin_s)
            self._data[fold] = encode(self.known.dataset, encoders, self.base, begin_s)
        data = self._data[fold]
        log = SourceLog.of(data, begin_s)
        source = fit_sources(log, (self.source,), settings.sources, settings.training.seed)[self.source]
        return _measured(self._recall(data, settings, source, begin_s), f"the source {self.source}", fold)

    def _recall(self, data: LearningData, settings: LearningSettings, source: CandidateSource, as_of_s: int) -> float:
        """Mean over users who buy anything (new, where only that counts) within the horizon; NaN without one."""
        depth, items = getattr(settings.candidates, self.source), data.item_count
        retrievable = retrievable_items(data.histories, items, as_of_s, settings.training.item_users_min)
        relevant = bought_between(data, as_of_s, as_of_s + settings.ranker.horizon_days * DAY_S)
        relevant = relevant[retrievable[relevant % items]]
        if self.new_only:
            relevant = np.setdiff1d(relevant, bought_between(data, 0, as_of_s), assume_unique=True)
        users = np.intersect1d(users_before(data, as_of_s), relevant // items).astype(np.int32)
        recalls = []
        for begin in range(0, len(users), USERS_PER_BATCH):
            chunk = users[begin : begin + USERS_PER_BATCH]
            rows = self._best(data, settings, source, chunk, as_of_s, retrievable, depth)
            hit = (rows >= 0) & np.isin(chunk[:, None].astype(np.int64) * items + rows, relevant)
            begins = np.searchsorted(relevant, chunk.astype(np.int64) * items)
            ends = np.searchsorted(relevant, (chunk.astype(np.int64) + 1) * items)
            recalls.append(hit.sum(axis=1) / np.minimum(ends - begins, depth))
        return float(np.concatenate(recalls).mean()) if recalls else math.nan

    def _best(
        self,
        data: LearningData,
        settings: LearningSettings,
        source: CandidateSource,
        users: np.ndarray,
        as_of_s: int,
        retrievable: np.ndarray,
        depth: int,
    ) -> np.ndarray:
        """(B, depth) what the source brings to the users (B,)."""
        shoppers = shoppers_at(data, settings, users, as_of_s, last_context(data, users, as_of_s))
        bought = shoppers.purchases.groups
        hidden = slice(None) if self.new_only else slice(0)
        excluded = Exclusions.of(bought.request[hidden], bought.item_row[hidden], len(users))
        shown = Shown(
            retrievable,
            excluded.offsets,
            excluded.rows,
            np.zeros((0, data.item_count), np.bool_),
            np.full(len(users), -1, np.int64),
        )
        return source.ask(SourceRequest(shoppers.histories, data.users.attribute[users])).best(depth, shown)
