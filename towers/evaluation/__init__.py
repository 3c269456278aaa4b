"""Offline evaluation: the time split, metrics with intervals, the baselines, and the table that compares them."""

from towers.evaluation.baselines import Baseline, Recommender
from towers.evaluation.bootstrap import Bootstrap, Interval
from towers.evaluation.interactions import Interactions, target_interactions
from towers.evaluation.metrics import catalogue_coverage, per_user_metrics
from towers.evaluation.predictions import auc, log_loss, rmse
from towers.evaluation.protocol import EvaluationSet, TimeSplit, split_by_time
from towers.evaluation.ratings import rating_rmse
from towers.evaluation.report import MetricsReport, evaluate_rankings
from towers.evaluation.table import Comparison, compare, fit_baselines
from towers.evaluation.train_log import TrainLog, train_log

__all__ = [
    "Baseline",
    "Bootstrap",
    "Comparison",
    "EvaluationSet",
    "Interactions",
    "Interval",
    "MetricsReport",
    "Recommender",
    "TimeSplit",
    "TrainLog",
    "auc",
    "catalogue_coverage",
    "compare",
    "evaluate_rankings",
    "fit_baselines",
    "log_loss",
    "per_user_metrics",
    "rating_rmse",
    "rmse",
    "split_by_time",
    "target_interactions",
    "train_log",
]
