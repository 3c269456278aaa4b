"""The search space: which settings are tried, and where; `[tune.space]` of a shop's TOML replaces and adds entries.

The shop's present value is always within: ranges are widened to it, choices take it in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from pydantic import ValidationError

from towers.schema import ConfigError
from towers.settings import LearningSettings
from towers.tuning.settings import Choices, Dimension, Range, TuneSettings

Space = Mapping[str, Dimension]
"""Path of a setting, such as "towers.learning_rate" → where it is searched."""

TOWERS: Space = {
    "towers.learning_rate": Range(low=5e-4, high=8e-3, log=True),
    "towers.weight_decay": Range(low=1e-6, high=1e-1, log=True),
    "towers.dropout": Range(low=0.0, high=0.5),
    "towers.id_dropout": Range(low=0.0, high=0.5),
    "towers.temperature": Range(low=0.03, high=0.2, log=True),
    "towers.uniform_negatives": Choices(choices=(256, 512, 1_024, 2_048)),
    "towers.batch_size": Choices(choices=(128, 256, 512)),
    "towers.dimension": Choices(choices=(32, 64, 128)),
    "towers.blocks": Choices(choices=(1, 2)),
    "towers.item_events_min": Range(low=1, high=10),
    "towers.encoder": Choices(choices=("self_attention", "gru", "cnn", "mean")),
    "features.sequence_events_max": Choices(choices=(20, 50, 100)),
}
SOURCES: Space = {
    "sources.item_item.similarity": Choices(choices=("cosine", "pearson", "tfidf", "bm25")),
    "sources.item_item.neighbours": Choices(choices=(50, 100, 200, 400)),
    "sources.item_item.shrinkage": Range(low=0.0, high=50.0),
    "sources.item_item.asymmetry": Range(low=0.2, high=0.8),
    "sources.item_item.power": Range(low=0.5, high=3.0),
    "sources.item_item.profile.half_life_items": Range(low=0.0, high=50.0),
    "sources.bought_next.neighbours": Choices(choices=(50, 100, 200, 400)),
    "sources.bought_next.window": Range(low=1, high=50, log=True),
    "sources.bought_next.distance_power": Range(low=0.0, high=2.0),
    "sources.bought_next.backward": Range(low=0.0, high=1.0),
    "sources.bought_next.popularity_exponent": Range(low=0.0, high=1.0),
    "sources.bought_next.source_exponent": Range(low=0.0, high=1.0),
    "sources.bought_next.profile.half_life_items": Range(low=0.0, high=20.0),
    "sources.bought_together.neighbours": Choices(choices=(50, 100, 200, 400)),
    "sources.bought_together.shrinkage": Range(low=1.0, high=100.0, log=True),
    "sources.bought_together.power": Range(low=0.3, high=2.0),
    "sources.bought_together.profile.half_life_items": Range(low=0.0, high=50.0),
    "sources.user_user.neighbours": Choices(choices=(50, 100, 200, 400)),
    "sources.user_user.popularity_exponent": Range(low=0.0, high=1.0),
    "sources.user_user.length_exponent": Range(low=0.0, high=1.0),
    "sources.user_user.likeness_power": Range(low=0.0, high=3.0),
    "sources.als.dimension": Choices(choices=(32, 64, 128)),
    "sources.als.confidence": Range(low=0.1, high=100.0, log=True),
    "sources.als.regularization": Range(low=0.1, high=300.0, log=True),
    "sources.als.profile.half_life_days": Range(low=0.0, high=365.0),
    "sources.bpr.dimension": Choices(choices=(32, 64, 128)),
    "sources.bpr.negatives": Range(low=1, high=16, log=True),
    "sources.bpr.step": Range(low=0.01, high=1.0, log=True),
    "sources.bpr.regularization": Range(low=1e-5, high=1e-1, log=True),
    "sources.bpr.length_exponent": Range(low=0.0, high=1.0),
    "sources.graph_filter.dimension": Choices(choices=(0, 64, 256, 512)),
    "sources.graph_filter.step": Range(low=0.0, high=2.0),
    "sources.graph_filter.sharpening": Range(low=0.0, high=3.0),
    "sources.graph_filter.own_exponent": Range(low=0.0, high=1.0),
    "sources.graph_filter.popularity_exponent": Range(low=0.0, high=1.0),
    "sources.graph_filter.profile.half_life_items": Range(low=0.0, high=50.0),
    "sources.light_gcn.dimension": Choices(choices=(32, 64, 128)),
    "sources.light_gcn.layers": Choices(choices=(1, 2)),
    "sources.light_gcn.negatives": Choices(choices=(256, 1_024, 4_096)),
    "sources.light_gcn.temperature": Range(low=0.05, high=0.5, log=True),
    "sources.light_gcn.learning_rate": Range(low=1e-3, high=1e-1, log=True),
    "sources.light_gcn.regularization": Range(low=1e-6, high=1e-2, log=True),
    "sources.content.attribute_weight": Range(low=0.0, high=3.0),
    "sources.content.word_weight": Range(low=0.0, high=3.0),
    "sources.content.power": Range(low=0.5, high=5.0),
    "sources.content.profile.half_life_items": Range(low=0.0, high=20.0),
    "sources.trending.window_days": Range(low=1, high=28, log=True),
    "sources.trending.smoothing": Range(low=1.0, high=50.0, log=True),
    "sources.segment.smoothing": Range(low=0.0, high=100.0),
}
RANKER: Space = {
    "ranker.hidden": Choices(choices=([32, 16], [64, 32], [128, 64], [256, 64])),
    "ranker.loss": Choices(choices=("binary", "listwise")),
    "ranker.negatives_max": Choices(choices=(0, 20, 50)),
    "ranker.dropout": Range(low=0.0, high=0.4),
    "ranker.learning_rate": Range(low=1e-3, high=2e-2, log=True),
    "ranker.weight_decay": Range(low=1e-6, high=1e-1, log=True),
    "ranker.batch_size": Choices(choices=(2_048, 8_192, 16_384)),
    "ranker.epochs_max": Range(low=2, high=8),
}
BUILT_IN: Space = {**TOWERS, **SOURCES, **RANKER}

PARTS: Mapping[str, tuple[str, ...]] = {
    "towers": ("towers", "features"),
    "sources": ("sources",),
    "ranker": ("ranker",),
}
"""Part → the sections of its settings."""

EXAMPLES_HANG_ON = ("ranker.cuts", "ranker.cut_every_days", "ranker.horizon_days", "ranker.heads.")
"""They decide what the ranker's examples are, which all trials share and are judged by."""
DIGITS = 5
"""Significant ones of a number that is tried: what is written down is what was tried."""


def space_of(part: str, settings: LearningSettings, tune: TuneSettings) -> Space:
    """The dimensions of a part for these settings, the present values within.

    Raises:
        ConfigError: an entry of [tune.space] names no setting, one that cannot be tried, or values that it refuses.
    """
    chosen: dict[str, Dimension] = {**BUILT_IN}
    for path, dimension in tune.space.items():
        _check(path, dimension, settings)
        chosen.pop(path, None)
        if dimension is not False:
            chosen[path] = dimension
    return {
        path: _with_present(path, dimension, present(settings, path))
        for path, dimension in chosen.items()
        if path.split(".")[0] in PARTS[part] and _in_use(path, settings)
    }


def _check(path: str, dimension: Dimension | Literal[False], settings: LearningSettings) -> None:
    if path.split(".")[0] not in {section for sections in PARTS.values() for section in sections}:
        raise ConfigError(f"tune.space: {path!r} is of no part that is tuned ({', '.join(PARTS)})")
    if path.startswith(EXAMPLES_HANG_ON):
        raise ConfigError(f"tune.space: {path!r} decides what the trials are judged by, and cannot be one of them")
    present(settings, path)
    if isinstance(dimension, Range):
        for value in (dimension.low, dimension.high):
            try:
                with_values(settings, {path: value})
            except ValidationError as error:
                raise ConfigError(f"tune.space: {path!r} may not be {value!r}") from error


def _in_use(path: str, settings: LearningSettings) -> bool:
    """A source that is off is not tuned."""
    section, name, *_ = path.split(".")
    return section != "sources" or name in settings.candidates.further


def present(settings: LearningSettings, path: str) -> Any:
    """The value of a setting. Raises ConfigError where there is none of that name."""
    value: Any = settings.model_dump(mode="json")
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            raise ConfigError(f"tune.space: there is no setting {path!r}")
        value = value[key]
    if isinstance(value, dict):
        raise ConfigError(f"tune.space: {path!r} is a section, not a setting")
    return value


def _with_present(path: str, dimension: Dimension, value: Any) -> Dimension:
    if isinstance(dimension, Choices):
        known = [_plain(choice) for choice in dimension.choices]
        return dimension if value in known else Choices(choices=(*known, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"tune.space: {path!r} is {value!r}, not a number; name choices")
    if dimension.log and value <= 0:
        raise ConfigError(f"tune.space: {path!r} is {value} now, which a logarithmic range cannot hold")
    return dimension.model_copy(update={"low": min(dimension.low, value), "high": max(dimension.high, value)})


def with_values(settings: LearningSettings, values: Mapping[str, Any]) -> LearningSettings:
    """The settings with some replaced. Raises ValidationError where they do not go together."""
    content = settings.model_dump()
    for path, value in values.items():
        *sections, key = path.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[key] = value
    return LearningSettings.model_validate(content)


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """What the sampler would try next; optuna holds a choice as JSON, so that lists can be chosen too."""
    values: dict[str, Any] = {}
    for path, dimension in space.items():
        if isinstance(dimension, Choices):
            values[path] = json.loads(trial.suggest_categorical(path, [encoded(c) for c in dimension.choices]))
        elif dimension.whole:
            values[path] = trial.suggest_int(path, int(dimension.low), int(dimension.high), log=dimension.log)
        else:
            drawn = trial.suggest_float(path, dimension.low, dimension.high, log=dimension.log)
            values[path] = float(f"{drawn:.{DIGITS}g}")
    return values


def fixed(space: Space, settings: LearningSettings) -> dict[str, Any]:
    """The present values as optuna holds them: the first trial."""
    return {
        path: encoded(present(settings, path)) if isinstance(dimension, Choices) else present(settings, path)
        for path, dimension in space.items()
    }


def encoded(choice: Any) -> str:
    """A choice as JSON."""
    return json.dumps(_plain(choice))


def _plain(choice: Any) -> Any:
    """A choice as JSON would read it: tuples are lists."""
    return list(choice) if isinstance(choice, tuple) else choice
