"""One table for baselines and models, judged on the same users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from towers.evaluation.als import TUNED, als, fit_factors, plus_decayed_frequency
from towers.evaluation.baselines import (
    Recommender,
    decayed_frequency,
    personal_frequency,
    popularity,
    recent_popularity,
)
from towers.evaluation.bootstrap import Bootstrap, Interval
from towers.evaluation.item_item import bm25, tfidf
from towers.evaluation.metrics import IntArray
from towers.evaluation.protocol import EvaluationSet, TimeSplit
from towers.evaluation.report import CUTOFFS, MetricsReport, Summary, evaluate_rankings
from towers.evaluation.train_log import TrainLog, train_log

Progress = Callable[[str], None]
Reports = Mapping[str, MetricsReport]

COLUMNS = ("recall@20", "ndcg@20", "precision@20", "mrr@20", "hit_rate@20", "coverage@20")

# What is new to the user has no history: these would repeat «popularity» and «als».
ONLY_WITH_REPEATS = frozenset({"personal_frequency", "decayed_frequency", "als_decayed_frequency"})


def _silent(name: str) -> None:
    del name


@dataclass(frozen=True, eq=False)
class Comparison:
    """Reports of baselines and models over one evaluation set, in the order of the table."""

    title: str
    baselines: Reports
    models: Reports

    def as_dict(self, bootstrap: Bootstrap = Bootstrap()) -> dict[str, dict[str, Summary]]:
        """JSON-able: {"baselines": {name: {"ndcg@20": …, "ndcg@20_ci": [low, high], …}}, "models": {…}}."""
        return {
            "baselines": {name: report.as_dict(bootstrap) for name, report in self.baselines.items()},
            "models": {name: report.as_dict(bootstrap) for name, report in self.models.items()},
        }

    def best_baseline(self, metric: str) -> str:
        """Name of the baseline with the highest mean of a metric like `ndcg@20`."""
        return max(self.baselines, key=lambda name: self.baselines[name].mean(metric))

    def lead(self, model: str, metric: str, bootstrap: Bootstrap = Bootstrap()) -> Interval:
        """By how much a model is ahead of the best baseline, paired by user."""
        return self.models[model].difference(self.baselines[self.best_baseline(metric)], metric, bootstrap)

    def table(self, columns: Sequence[str] = COLUMNS, bootstrap: Bootstrap = Bootstrap()) -> Table:
        """The table to print; coverage has no interval."""
        users = next(iter([*self.baselines.values(), *self.models.values()])).user_count
        table = Table(title=f"{self.title} ({users:,} users, {bootstrap.level:.0%} intervals)", caption=self._caption())
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(column, justify="right")
        for group, style in ((self.baselines, ""), (self.models, "bold")):
            for name, report in group.items():
                table.add_row(name.replace("_", " "), *_cells(report, columns, bootstrap), style=style)
            table.add_section()
        return table

    def _caption(self, metric: str = "ndcg@20") -> str | None:
        if not self.baselines or any(metric not in report.per_user for report in self.models.values()):
            return None
        lines = []
        for model in self.models:
            ahead = self.lead(model, metric)
            best = self.best_baseline(metric).replace("_", " ")
            lines.append(f"{model} - {best}, {metric}: {ahead.mean:+.4f} [{ahead.low:+.4f}, {ahead.high:+.4f}]")
        return "\n".join(lines) or None


def fit_baselines(log: TrainLog, progress: Progress = _silent) -> dict[str, Recommender]:
    """Every baseline of the table, fitted; `progress` is told the name of each before its turn.

    The factorisation is fitted once for `als` and `als_decayed_frequency`.
    """
    fits: dict[str, Callable[[TrainLog], Recommender]] = {
        "popularity": popularity,
        "recent_popularity": recent_popularity,
        "personal_frequency": personal_frequency,
        "decayed_frequency": decayed_frequency,
        "tfidf": tfidf,
        "bm25": bm25,
        "als_tuned": lambda log: als(log, TUNED),
    }
    fitted = {}
    for name, fit in fits.items():
        progress(name)
        fitted[name] = fit(log)
    progress("als")
    factors = fit_factors(log)
    return fitted | {"als": Recommender(log, factors), "als_decayed_frequency": plus_decayed_frequency(log, factors)}


def compare(
    split: TimeSplit,
    models: Mapping[str, IntArray],
    new_only_models: Mapping[str, IntArray],
    ks: Sequence[int] = CUTOFFS,
    progress: Progress = _silent,
) -> tuple[Comparison, Comparison]:
    """Judge the baselines and the given rankings: over all items, and over items new to the user.

    Args:
        split: what the baselines learn from, and what is asked.
        models: name → rankings (U, K) of `split.evaluation_set`, K at least max(ks).
        new_only_models: name → rankings (V, K) of `split.evaluation_set.new_only()`.
        ks: cutoffs.
        progress: told the name of each baseline before its turn.
    """
    recommenders = fit_baselines(train_log(split), progress)
    asked, unseen = split.evaluation_set, split.evaluation_set.new_only()
    return (
        Comparison("All items", _judge(recommenders, asked, ks), _judge_rankings(models, asked, ks)),
        Comparison("New to the user", _judge(recommenders, unseen, ks), _judge_rankings(new_only_models, unseen, ks)),
    )


def _judge(recommenders: Mapping[str, Recommender], asked: EvaluationSet, ks: Sequence[int]) -> Reports:
    return {
        name: evaluate_rankings(
            fitted.recommend(asked.user_rows, max(ks), exclude_bought=asked.exclude_bought), asked, ks
        )
        for name, fitted in recommenders.items()
        if not (asked.exclude_bought and name in ONLY_WITH_REPEATS)
    }


def _judge_rankings(rankings: Mapping[str, IntArray], asked: EvaluationSet, ks: Sequence[int]) -> Reports:
    return {name: evaluate_rankings(rows, asked, ks) for name, rows in rankings.items()}


def _cells(report: MetricsReport, columns: Sequence[str], bootstrap: Bootstrap) -> list[str]:
    intervals = report.intervals(bootstrap)
    cells = []
    for column in columns:
        if column in report.coverage:
            cells.append(f"{report.coverage[column]:.3f}")
        elif column in intervals:
            interval = intervals[column]
            cells.append(f"{interval.mean:.4f} [{interval.low:.3f}, {interval.high:.3f}]")
        else:
            cells.append("")  # another cutoff was evaluated
    return cells
