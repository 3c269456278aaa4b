"""A training run: tune on the validation month, then learn again with that month and the epochs it chose.

The towers end where the ranker's earliest cut begins, so that every score the ranker learns from was made for the
future, as in serving. At serving the towers still read the newest events: only their weights are older.

    validate   towers ← before c3 | cuts c3 c2 c1 | scored on the validation month     chooses epochs, calibrates
    refit      the same, everything one validation period later                        what is published
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from towers.evaluation import evaluate_rankings, split_by_time, target_interactions
from towers.features.histories import BoolArray, FloatArray
from towers.item_table import item_table
from towers.learning_data import LearningData, encode, fit_encoders, retrievable_items
from towers.model import TrainedModel, ranker_shape
from towers.models.item_tower import ItemTensors
from towers.models.ranker import Ranker
from towers.offline import rank_users
from towers.recommender import UserEmbedder
from towers.schema import Dataset
from towers.settings import LearningSettings
from towers.sources.registry import sources_at
from towers.training import distributed
from towers.training.carrying import carry_weights
from towers.training.cuts import DAY_S, CutExamples, RetrieverFactory, bought_between, build_cut
from towers.training.head_targets import check_heads
from towers.training.loop import Checkpoint, FitResult, Schedule, Watcher, fit
from towers.training.ranker_calibration import Reliability, calibrate, copy_calibration
from towers.training.ranker_outputs import candidate_ndcg, ranker_heads, ranker_logits
from towers.training.ranker_quality import ranker_quality, write_reliability
from towers.training.ranker_task import RankerLoss, RankerTask
from towers.training.record import RunRecord, versions
from towers.training.tower_task import Towers, TowerTask, embed_items
from towers.training.visits import find_visits


@dataclass(frozen=True)
class Fitted:
    """One phase's outcome: the model and how it was found."""

    model: TrainedModel
    towers: FitResult
    ranker: FitResult


@dataclass(frozen=True)
class Stage:
    """Towers trained until one moment, with the data as their encoders see it and all item vectors (n, D)."""

    towers_end_s: int
    data: LearningData
    towers: Towers
    result: FitResult
    vectors: FloatArray
    embedder: UserEmbedder


@dataclass(frozen=True)
class Examples:
    """What a phase's ranker learns from: the cuts, and the one to be judged by, None in a refit.

    `stage` is the newest towers', whose vectors the held-out cut has too.
    """

    stage: Stage
    cuts: list[CutExamples]
    held_out: CutExamples | None


@dataclass
class TrainingRun:
    """All that both phases share.

    Attributes:
        dataset, settings: what is learned from, and how.
        retrievers: builds the search that hard negatives come from.
        directory: for checkpoints. progress: the bars. say: prints a line.
    """

    dataset: Dataset
    settings: LearningSettings
    retrievers: RetrieverFactory
    directory: Path
    progress: Progress
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.device = choose_device(self.settings.training.device)
        self.precision = choose_precision(self.settings.training.precision, self.device)
        self._fingerprint = f"{fingerprint(self.dataset, self.settings)}-{distributed.process_count()}"
        self._watcher: Watcher | None = None
        if self.settings.training.threads:
            torch.set_num_threads(self.settings.training.threads)

    def _checkpoint(self, phase: str, model: str) -> Checkpoint | None:
        """A checkpoint of other data or settings is not resumed."""
        return Checkpoint(self.directory / "checkpoints" / f"{phase}-{model}.safetensors", self._fingerprint)

    def train_end_s(self) -> int:
        """Where learning ends, epoch seconds."""
        end = self.settings.training.train_end
        return int(end.timestamp()) if end is not None else self.dataset.meta.last_time_s + 1

    def run(self) -> TrainedModel:
        """Both phases; returns the refitted model with the validation's metrics."""
        started = time.monotonic()
        end_s = self.train_end_s()
        validation_s = self.settings.training.validation_days * DAY_S
        record = RunRecord(self.directory)
        if distributed.is_first():
            record.open(self._about(), going_on=(self.directory / "checkpoints").exists())
        self._watcher = record
        tuned = self._phase("validate", end_s - validation_s, end_s, None)
        refitted = self._phase("refit", end_s, None, tuned)
        metrics = {**_finite(tuned.model.metrics), "seconds": round(time.monotonic() - started, 1)}
        if distributed.is_first():
            record.close(metrics)
            shutil.rmtree(self.directory / "checkpoints", ignore_errors=True)
        return TrainedModel(**{**refitted.model.__dict__, "metrics": metrics})

    def _about(self) -> dict[str, Any]:
        """What the run directory says of a run: enough to repeat it."""
        return {
            "fingerprint": self._fingerprint,
            "seed": self.settings.training.seed,
            "train_end_s": self.train_end_s(),
            "device": str(self.device),
            "precision": str(self.precision).removeprefix("torch."),
            "processes": distributed.process_count(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "dataset": self.dataset.meta.model_dump(mode="json"),
            "settings": self.settings.model_dump(mode="json"),
        }

    def learn_again(self, model: TrainedModel) -> TrainedModel:
        """The towers learn on with the events until the end of training, for as many epochs as were chosen.

        They begin with the model's weights, so that its ranker still knows their space; the ranker stays as it is.
        What labelled the ranker is then learned by the towers too: no further ranker may be fitted on it.
        """
        end_s, settings = self.train_end_s(), self.settings
        data = encode(self.dataset, fit_encoders(self.dataset, settings, end_s), settings, end_s)
        chosen = Fitted(model, FitResult(model.metrics["towers"]["epochs"], math.nan), FitResult(0, math.nan))
        torch.manual_seed(settings.training.seed)
        towers, _ = self._fit_towers("again", data, end_s, chosen, begin=model)
        if distributed.is_first():
            shutil.rmtree(self.directory / "checkpoints", ignore_errors=True)
        return replace(
            model,
            encoders=data.encoders,
            item_tower=towers.item.cpu().eval(),
            user_tower=towers.user.cpu().eval(),
            towers_until_s=end_s,
        )

    def _examples(self, name: str, ranker_end_s: int, held_out: bool, tuned: Fitted | None) -> Examples:
        """Fits the towers and asks at every cut; the youngest has its whole horizon before `ranker_end_s`."""
        settings = self.settings
        ranker = settings.ranker
        newest = ranker_end_s - ranker.horizon_days * DAY_S
        cut_times = [newest - place * ranker.cut_every_days * DAY_S for place in range(ranker.cuts)]
        model = Ranker(ranker_shape(settings))
        cuts: list[CutExamples] = []
        stages = [(cut_s, [cut_s]) for cut_s in reversed(cut_times)]
        if settings.training.towers_end == "first_cut":
            stages = [(cut_times[-1], cut_times)]
        for place, (towers_end_s, own_cuts) in enumerate(stages, start=1):
            label = name if len(stages) == 1 else f"{name} {place} of {len(stages)}"
            stage = self._stage(label, towers_end_s, tuned)
            cuts += [self._cut(f"{label} cut", stage, model, cut_s) for cut_s in own_cuts]
        judged = self._cut(f"{name} held out", stage, model, ranker_end_s) if held_out else None
        return Examples(stage, cuts, judged)

    def _phase(self, name: str, ranker_end_s: int, validation_end_s: int | None, tuned: Fitted | None) -> Fitted:
        """One phase: towers, cuts, ranker; with a validation period also its figures."""
        settings = self.settings
        examples = self._examples(name, ranker_end_s, validation_end_s is not None, tuned)
        stage, cuts, held_out = examples.stage, examples.cuts, examples.held_out
        data, towers, towers_result, towers_end_s = stage.data, stage.towers, stage.result, stage.towers_end_s
        torch.manual_seed(settings.training.seed)  # again: a resumed run may have drawn nothing for the towers
        model = Ranker(ranker_shape(settings))
        ranker_result = self._fit_ranker(name, model, cuts, held_out, tuned)
        metrics = self._measure(data, model, held_out, towers_result, ranker_result, ranker_end_s)
        if tuned is not None:
            copy_calibration(tuned.model.ranker, model)
        trained = TrainedModel(
            settings,
            data.encoders,
            towers.item.cpu().eval(),
            towers.user.cpu().eval(),
            model.cpu().eval(),
            towers_end_s,
            ranker_end_s,
            metrics,
        )
        if validation_end_s is not None and distributed.is_first():
            metrics["validation"] |= self._judge(trained, ranker_end_s, validation_end_s)
        return Fitted(trained, towers_result, ranker_result)

    def _judge(self, model: TrainedModel, begin_s: int, end_s: int) -> dict[str, float]:
        """The whole recommender on the validation month by the protocol of the test: NDCG@20, all and new only."""
        item_users_min = max(self.settings.training.item_users_min, 1)
        try:
            asked = split_by_time(
                target_interactions(self.dataset), train_end_s=begin_s, test_end_s=end_s, item_users_min=item_users_min
            ).evaluation_set
            asked = replace(asked, exclude_bought=not self.settings.ranker.repeats)
            asked_of = {"": asked, "_new_only": asked.new_only()}
        except ValueError as error:  # a short log may hold nobody to ask
            self.say(f"validation, all items ranked: not measured, {error}")
            return {}
        judged = {}
        for name, questions in asked_of.items():
            rankings = rank_users(self.dataset, model, questions, self.retrievers, k=20)
            judged[f"ndcg@20{name}"] = evaluate_rankings(rankings, questions, ks=(20,)).mean("ndcg@20")
        self.say(f"validation, all items ranked: {judged}")
        return judged

    def _fit_towers(
        self,
        name: str,
        data: LearningData,
        towers_end_s: int,
        tuned: Fitted | None,
        begin: TrainedModel | None = None,
    ) -> tuple[Towers, FitResult]:
        settings = self.settings
        learnable = retrievable_items(data.histories, data.item_count, towers_end_s, settings.training.item_users_min)
        visits = find_visits(data, learnable, only_new=settings.towers.positives == "new")
        task = TowerTask(
            model=Towers(data, settings).to(self.device),
            data=data,
            visits=visits,
            learnable=learnable,
            settings=settings,
            train_end_s=towers_end_s,
            validation_end_s=towers_end_s + (settings.training.validation_days * DAY_S if tuned is None else 0),
            seed=settings.training.seed,
            device=self.device,
            name=f"{name}: towers",
        )
        if begin is not None:
            carry_weights(begin, task.model, data.encoders)
        schedule = Schedule(
            settings.towers.epochs_max,
            settings.towers.patience,
            settings.towers.learning_rate,
            settings.towers.weight_decay,
            settings.towers.gradient_norm_max,
            stop_after=tuned.towers.epochs if tuned is not None else None,
        )
        checkpoint = self._checkpoint(name, "towers")
        seed = settings.training.seed
        return task.model, fit(task, schedule, seed, checkpoint, self.progress, self.precision, self._watcher)

    def _stage(self, label: str, towers_end_s: int, tuned: Fitted | None) -> Stage:
        """Towers that learned from everything before a moment."""
        encoders = fit_encoders(self.dataset, self.settings, towers_end_s)
        data = encode(self.dataset, encoders, self.settings, towers_end_s)
        check_heads(data, self.settings.ranker.heads.on)
        torch.manual_seed(self.settings.training.seed)
        towers, result = self._fit_towers(label, data, towers_end_s, tuned)
        vectors = embed_items(towers.item, ItemTensors.of(data.items, self.device)).cpu().numpy()
        embedder = UserEmbedder(towers.user.cpu(), vectors, self.settings.features.sequence_events_max)
        return Stage(towers_end_s, data, towers, result, vectors, embedder)

    def _cut(self, label: str, stage: Stage, ranker: Ranker, cut_s: int) -> CutExamples:
        data, vectors, embedder = stage.data, stage.vectors, stage.embedder
        sources = sources_at(data, self.settings, cut_s, stage.towers_end_s)
        known_s = self.settings.training.learned_until_s(cut_s, stage.towers_end_s)
        table = item_table(data, vectors, self.settings, known_s, sources)
        examples = build_cut(data, self.settings, embedder, ranker, table, self.retrievers, cut_s)
        self.say(
            f"{label} {np.datetime64(cut_s, 's')}: {len(examples.user_row):,} users, "
            f"{len(examples.label):,} candidates, {examples.label.mean():.2%} bought"
        )
        return examples

    def _fit_ranker(
        self, name: str, model: Ranker, cuts: list[CutExamples], held_out: CutExamples | None, tuned: Fitted | None
    ) -> FitResult:
        ranker = self.settings.ranker
        torch.manual_seed(self.settings.training.seed)
        task = RankerTask(
            model.to(self.device),
            cuts,
            held_out,
            ranker.batch_size,
            self.settings.training.seed,
            self.device,
            name=f"{name}: ranker",
            loss=RankerLoss.of(ranker),
            vector_weight=ranker.vector_weight,
        )
        schedule = Schedule(
            ranker.epochs_max,
            ranker.patience,
            ranker.learning_rate,
            ranker.weight_decay,
            ranker.gradient_norm_max,
            stop_after=tuned.ranker.epochs if tuned is not None else None,
        )
        seed, checkpoint = self.settings.training.seed, self._checkpoint(name, "ranker")
        return fit(task, schedule, seed, checkpoint, self.progress, self.precision, self._watcher)

    def _measure(
        self,
        data: LearningData,
        ranker: Ranker,
        held_out: CutExamples | None,
        towers_result: FitResult,
        ranker_result: FitResult,
        cut_s: int,
    ) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "towers": {"epochs": towers_result.epochs, "history": towers_result.history},
            "ranker": {"epochs": ranker_result.epochs, "history": ranker_result.history},
        }
        if held_out is None:
            return metrics
        fitted, judged = (held_out.of_users(parity) for parity in (0, 1))  # calibrated on one half, judged on the other
        slope, offset = calibrate(ranker, fitted, self.device)
        logit = ranker_logits(ranker, held_out, self.device)
        outputs = ranker_heads(ranker, judged, self.device)  # (n, H)
        never = ~_bought_before(data, held_out, cut_s)
        metrics["validation"] = {
            "recall@100_of_towers": towers_result.score,
            "ndcg@20_of_candidates": candidate_ndcg(held_out, logit),
            "ndcg@20_of_new_candidates": candidate_ndcg(held_out, logit, never),
            "calibration": [slope, offset],
            **ranker_quality(ranker.shape.heads, outputs, judged),
        }
        reliability = Reliability.of(outputs[:, 0], judged.label)
        if distributed.is_first():
            metrics["reliability"] = write_reliability(reliability, self.directory / "reliability.png")
        for key, value in metrics["validation"].items():
            self.say(f"validation {key}: {value if isinstance(value, list) else round(value, 4)}")
        return metrics


def _finite(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics as JSON can hold them: a figure that could not be measured becomes None."""
    finite: dict[str, Any] = json.loads(json.dumps(metrics), parse_constant=lambda _: None)
    return finite


def fingerprint(dataset: Dataset, settings: LearningSettings) -> str:
    """16 hex digits over settings and data, every row of it."""
    digest = hashlib.sha256((settings.model_dump_json() + dataset.meta.model_dump_json()).encode())
    for table in (dataset.items, dataset.users):
        digest.update(table.hash_rows(seed=0).to_numpy().tobytes())
    events = dataset.events
    for column in (events.user_row, events.item_row, events.event_type, events.time_s):
        digest.update(np.ascontiguousarray(column).data)
    for values in events.context.values():
        digest.update("\0".join(values.tolist()).encode())
    return digest.hexdigest()[:16]


def choose_device(wanted: str) -> torch.device:
    """`auto` takes CUDA when there is one, under torchrun a GPU a process; `cuda` without one is an error."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device is cuda, but torch sees no CUDA device; use auto or cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 on the CPU."""
    half = wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


def _bought_before(data: LearningData, cut: CutExamples, cut_s: int) -> BoolArray:
    bought = bought_between(data, 0, cut_s)
    return np.isin(cut.user_row[cut.candidate_user].astype(np.int64) * data.item_count + cut.candidate_item, bought)
