"""What a worker tells of itself, as JSON lines, and how the reports of all workers become one.

Counters and histograms are sums over the workers that run and those that have ended, so they never fall. Gauges are
sums where a sum has a meaning, otherwise the value that is worth an alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict

SUMMED_TYPES = ("counter", "histogram")
LEAST = (
    "twinrank_generation_loaded_timestamp_seconds",
    "twinrank_catalogue_following",
    "twinrank_catalogue_spare_rows",
    "process_start_time_seconds",
    "process_max_fds",
)
"""Gauges of which the least value counts: the worker that is behind, the oldest process, the tightest limit."""
MOST = ("twinrank_draining", "twinrank_generation_info", "twinrank_catalogue_delta_items")
"""Gauges of which the largest value counts: yes, when one says yes."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by sample name and labels."""


class Family(BaseModel):
    """One metric with its samples: (name, labels, value)."""

    model_config = ConfigDict(frozen=True)

    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


class Report(BaseModel):
    """The state of one worker at one moment. Times are epoch seconds; empty strings where there is none."""

    model_config = ConfigDict(frozen=True)

    serving_id: str = ""
    loaded_at_s: float = 0.0
    refused_id: str = ""
    refused_reason: str = ""
    refused_count: int = 0
    answered_count: int = 0
    in_flight_count: int = 0
    families: list[Family] = []


def families_of(collector: Collector | Any) -> list[Family]:
    """What a registry or a collector has to tell now."""
    return [
        Family(
            name=metric.name,
            documentation=metric.documentation,
            type=metric.type,
            samples=[(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in collector.collect()
    ]


def merged(reports: Iterable[Iterable[Family]]) -> list[Family]:
    """One set of metrics from those of several processes."""
    first: dict[str, Family] = {}
    values: dict[str, Samples] = {}
    for families in reports:
        for family in families:
            first.setdefault(family.name, family)
            samples = values.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = (name, tuple(labels.items()))
                samples[key] = _combine(name, samples[key], value) if key in samples else value
    return [
        family.model_copy(update={"samples": [(key[0], dict(key[1]), value) for key, value in values[name].items()]})
        for name, family in first.items()
    ]


def lasting(families: Iterable[Family]) -> list[Family]:
    """What remains of a worker that has ended: its counts."""
    return [family for family in families if family.type in SUMMED_TYPES]


def as_metrics(families: Iterable[Family]) -> Iterator[Metric]:
    """For a scrape."""
    for family in families:
        metric = Metric(family.name, family.documentation, family.type)
        for name, labels, value in family.samples:
            metric.add_sample(name, labels, value)
        yield metric


def _combine(name: str, one: float, other: float) -> float:
    if name in LEAST:
        return min(one, other)
    if name in MOST:
        return max(one, other)
    return one + other
