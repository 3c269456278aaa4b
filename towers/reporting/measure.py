"""The whole report as figures: one nested dict that JSON can hold, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from towers.evaluation import (
    Bootstrap,
    Comparison,
    EvaluationSet,
    MetricsReport,
    TimeSplit,
    evaluate_rankings,
    fit_baselines,
    train_log,
)
from towers.evaluation.metrics import FloatArray, IntArray
from towers.evaluation.table import ONLY_WITH_REPEATS, Progress
from towers.features.histories import FloatArray as Float32Array
from towers.reporting import exposure
from towers.reporting.calibration import reliability
from towers.reporting.contribution import ablation, contribution, known
from towers.reporting.fairness import gaps
from towers.reporting.lists import ListsInvalid, RankedLists
from towers.reporting.significance import against_each
from towers.reporting.slices import (
    Slicing,
    by_history_length,
    by_item_attribute,
    by_novelty,
    by_popularity,
    by_user_attribute,
    measure,
)
from towers.schema import Dataset

MODEL = "twinrank"
CURVE_KS = (1, 2, 3, 5, 10, 20, 30, 50, 75, 100)
K_MAX = max(CURVE_KS)
MAIN_K = 20
CURVE_METRICS = ("ndcg", "recall", "precision", "hit_rate")

Figures = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Answers:
    """What is judged.

    Attributes:
        everything, new_only: the model's lists for the two questions, served or ranked offline.
        offline: question ("all", "new") → the lists ranked offline with all sources, under "", and without each
            source, under its name; empty: what a source is worth is not measured.
        vectors: (item_count, D) unit vectors of the item tower; for diversity where items have no categories.
    """

    everything: RankedLists
    new_only: RankedLists | None
    offline: Mapping[str, Mapping[str, RankedLists]] = field(default_factory=dict)
    vectors: Float32Array | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """One question with everybody's lists and what they are worth; the model's name is MODEL."""

    asked: EvaluationSet
    rankings: Mapping[str, IntArray]
    reports: Mapping[str, MetricsReport]

    @property
    def baselines(self) -> dict[str, MetricsReport]:
        """All but the model."""
        return {name: report for name, report in self.reports.items() if name != MODEL}

    def best_baseline(self, metric: str) -> str:
        """Name of the baseline with the highest mean."""
        return Comparison("", self.baselines, {}).best_baseline(metric)


def measure_all(
    dataset: Dataset, split: TimeSplit, answers: Answers, attribute: str | None, progress: Progress
) -> Figures:
    """Every section but «about», «verdict» and «cold_start».

    Args:
        dataset: the shop's.
        split: what the baselines learn from, and what is asked.
        answers: the model's lists.
        attribute: the item attribute to slice by; None: no such slice.
        progress: told what is being done.
    """
    everything, new_only = judge(split, answers, progress)
    metric = f"ndcg@{MAIN_K}"
    best = everything.best_baseline(metric)
    item_users = np.bincount(split.train.distinct_pairs().indices, minlength=dataset.item_count)
    progress("slices")
    people = people_slicings(dataset, everything.asked)
    slicings = [*_question_slicings(dataset, split, item_users, attribute), *people]
    ours, theirs = everything.rankings[MODEL], everything.rankings[best]
    figures: Figures = {
        "metrics": {"all": _summaries(everything), "new": new_only and _summaries(new_only)},
        "significance": {
            "all": _significance(everything),
            "new": new_only and _significance(new_only),
        },
        "curves": _curves(everything),
        "slices": [
            {
                "name": slicing.name,
                "of": slicing.of,
                "baseline": best,
                "groups": measure(slicing, everything.asked, ours, theirs, MAIN_K),
            }
            for slicing in slicings
        ],
    }
    progress("exposure, calibration, sources, fairness")
    return figures | {
        "lists": _describe(dataset, split, everything, answers, item_users),
        "calibration": reliability(answers.everything, everything.asked),
        "sources": {
            "all": _sources(answers.everything, answers.offline.get("all", {}), everything),
            "new": new_only
            and answers.new_only
            and _sources(answers.new_only, answers.offline.get("new", {}), new_only),
        },
        "fairness": _fairness(people, everything, best),
    }


def judge(split: TimeSplit, answers: Answers, progress: Progress) -> tuple[Judged, Judged | None]:
    """Baselines and model on both questions; None where nobody bought anything new."""
    fitted = fit_baselines(train_log(split), progress)
    questions = [(split.evaluation_set, answers.everything)]
    if answers.new_only is not None:
        questions.append((split.evaluation_set.new_only(), answers.new_only))
    judged = []
    for asked, lists in questions:
        width = lists.rows.shape[1]
        rankings = {
            name: baseline.recommend(asked.user_rows, width, exclude_bought=asked.exclude_bought)
            for name, baseline in fitted.items()
            if not (asked.exclude_bought and name in ONLY_WITH_REPEATS)
        } | {MODEL: lists.rows}
        ks = cutoffs(width)
        judged.append(
            Judged(asked, rankings, {name: evaluate_rankings(rows, asked, ks) for name, rows in rankings.items()})
        )
    return judged[0], judged[1] if len(judged) > 1 else None


def cutoffs(width: int) -> tuple[int, ...]:
    """The curve's cutoffs that lists of this width reach. Raises ListsInvalid below MAIN_K."""
    if width < MAIN_K:
        raise ListsInvalid(f"the lists hold {width} places at most; the report judges the first {MAIN_K}")
    return tuple(k for k in CURVE_KS if k <= width)


def people_slicings(dataset: Dataset, asked: EvaluationSet) -> list[Slicing]:
    """By each attribute of the users that is no text."""
    names = dataset.meta.user_attributes
    return [
        by_user_attribute(name, dataset.users[name].gather(asked.user_rows))
        for name in (*names.categorical, *names.numeric)
    ]


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON cannot hold, and plain Python numbers."""
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def moment(time_s: int) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(time_s, UTC).isoformat()


def _question_slicings(dataset: Dataset, split: TimeSplit, item_users: Any, attribute: str | None) -> list[Slicing]:
    asked = split.evaluation_set
    before = np.bincount(split.train.user_row, minlength=dataset.user_count)[asked.user_rows]
    slicings = [by_history_length(before), by_novelty(asked), by_popularity(asked, item_users)]
    if attribute is not None:
        slicings.append(by_item_attribute(asked, attribute, dataset.items[attribute]))
    return slicings


def _summaries(judged: Judged) -> Figures:
    return {
        "baselines": {name: report.as_dict() for name, report in judged.baselines.items()},
        "models": {MODEL: judged.reports[MODEL].as_dict()},
    }


def _significance(judged: Judged) -> list[Figures]:
    return against_each(judged.reports[MODEL], judged.baselines, (f"ndcg@{MAIN_K}", f"recall@{MAIN_K}"))


def _curves(judged: Judged) -> Figures:
    ks = judged.reports[MODEL].ks
    return {
        "ks": list(ks),
        "metrics": {
            metric: {name: [report.mean(f"{metric}@{k}") for k in ks] for name, report in judged.reports.items()}
            for metric in CURVE_METRICS
        },
    }


def _describe(dataset: Dataset, split: TimeSplit, judged: Judged, answers: Answers, item_users: Any) -> Figures:
    """Coverage, diversity, novelty and exposure of everybody's lists."""
    users_in_train = int((np.diff(split.train.distinct_pairs().indptr) > 0).sum())
    codes = _codes(dataset)
    of: Figures = {}
    for name, rankings in judged.rankings.items():
        of[name] = {
            f"coverage@{MAIN_K}": judged.reports[name].coverage[f"coverage@{MAIN_K}"],
            **_interval(f"novelty@{MAIN_K}", exposure.self_information(rankings, item_users, users_in_train, MAIN_K)),
            **exposure.describe(rankings, judged.asked, item_users, users_in_train, MAIN_K),
        }
        if codes.shape[1]:
            distance = exposure.intra_list_distance(rankings, codes, MAIN_K)
        elif answers.vectors is not None:
            distance = exposure.intra_list_cosine_distance(rankings, answers.vectors, MAIN_K)
        else:
            continue
        of[name] |= _interval(f"diversity@{MAIN_K}", distance)
    measured_by = "attributes" if codes.shape[1] else "vectors" if answers.vectors is not None else None
    return {
        "of": of,
        "demand": exposure.demand(judged.asked, item_users, users_in_train),
        "diversity_by": measured_by,
    }


def _codes(dataset: Dataset) -> Any:
    """(item_count, A) codes of the items' categorical attributes."""
    names = dataset.meta.item_attributes.categorical
    columns = [np.unique(dataset.items[name].to_numpy().astype(np.str_), return_inverse=True)[1] for name in names]
    return np.stack(columns, axis=1) if columns else np.zeros((dataset.item_count, 0), np.int64)


def _interval(name: str, values: FloatArray) -> Figures:
    """Mean and interval over the users who have a value."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {name: None, f"{name}_ci": None}
    interval = Bootstrap().intervals({name: values})[name]
    return {name: interval.mean, f"{name}_ci": [interval.low, interval.high]}


def _sources(lists: RankedLists, offline: Mapping[str, RankedLists], judged: Judged) -> Figures:
    """One question: who brought what is listed, and what is lost without each source."""
    figures: Figures = {"contribution": None, "ablation": None}
    if known(lists):
        figures["contribution"] = contribution(lists, judged.asked, MAIN_K)
    without = {name: found for name, found in offline.items() if name}
    if without:
        ks = (MAIN_K,)
        whole = evaluate_rankings(offline[""].rows, judged.asked, ks)
        figures["ablation"] = ablation(whole, without, judged.asked, ks, MAIN_K)
        figures["ablation_of"] = whole.mean(f"ndcg@{MAIN_K}")
    return figures


def _fairness(people: list[Slicing], judged: Judged, best: str) -> list[Figures]:
    def worth(name: str) -> dict[str, FloatArray]:
        metric = f"ndcg@{MAIN_K}"
        quality = exposure.exposure_quality(judged.rankings[name], judged.asked, MAIN_K)
        return {metric: judged.reports[name].per_user[metric], f"exposure_quality@{MAIN_K}": quality}

    return gaps(people, worth(MODEL), worth(best))
