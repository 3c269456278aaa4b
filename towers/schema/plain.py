"""Settings of a plain file (`user item item …`): the learning sections of a shop's TOML, and `[plain]`.

What a protocol fixes (times, horizons, which items count) is set here and refused in the file.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from towers.schema.cleaning import Section
from towers.schema.config import EventColumnNames, EventsSection, ItemsSection, ShopConfig, ShopSection, problems
from towers.schema.errors import ConfigError
from towers.settings import (
    CandidateSettings,
    FeatureSettings,
    RankerSettings,
    TowerSettings,
    TrainingSettings,
)
from towers.sources.settings import SourceSettings
from towers.tuning.settings import TuneSettings

ASKED_AT = datetime(2020, 1, 1, tzinfo=UTC)
"""T0. The files have no times, so this is a label: what is learned lies before it, what is asked at it."""
EVENT_TYPE = "interaction"
ATTRIBUTES = "attributes"
"""The text column of the items: their attribute ids, joined by spaces."""


class Protocol(StrEnum):
    """How a plain file is split into what is learned and what is asked."""

    LEAVE_LAST_OUT = "leave-last-out"
    HOLDOUT = "holdout"


class PlainSection(Section):
    """How a plain file is read."""

    ranker_share: float = Field(
        default=0.1, gt=0, lt=0.5, description="Holdout: share of a user's train items that label the ranker."
    )
    validation_share: float = Field(
        default=0.1, gt=0, lt=0.5, description="Holdout: share of a user's train items that validate it."
    )
    popularity_exponent: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="Holdout: labels and validation are drawn by the number of an item's users to a power, each user's "
        "own between 0 and this; above 0 where the test part may hold more popular items than chance would.",
    )
    seed: int = Field(default=17, ge=0, description="Seed of the dealing, and of the order of the items' rows.")
    refit: bool = Field(
        default=False,
        description="Holdout: whether the towers learn again, with the items that had labelled the ranker, before they "
        "serve. Leave-last-out always reports both.",
    )


class PlainConfig(Section):
    """The whole file; every section may be missing."""

    plain: PlainSection = PlainSection()
    features: FeatureSettings = FeatureSettings()
    towers: TowerSettings = TowerSettings()
    candidates: CandidateSettings = CandidateSettings(buy_again=0, similar=0)
    sources: SourceSettings = SourceSettings()
    ranker: RankerSettings = RankerSettings()
    training: TrainingSettings = TrainingSettings()
    tune: TuneSettings = TuneSettings()
    index: dict[str, Any] = Field(default_factory=dict, description="As in a shop's TOML.")

    def shop(self, file: Path, attributes: Path | None, protocol: Protocol, work_dir: Path) -> ShopConfig:
        """The shop that learns from the file by the protocol, with its work under `work_dir`.

        Raises:
            ConfigError: the file sets otherwise what the protocol fixes.
        """
        fixed = _fixed(protocol)
        for section, values in fixed.items():
            given = getattr(self, section)
            for key, value in values.items():
                if key in given.model_fields_set and getattr(given, key) != value:
                    raise ConfigError(
                        f"[{section}] {key}: {getattr(given, key)!r}, but the protocol {protocol} fixes it at {value!r}"
                    )
        return ShopConfig(
            shop=ShopSection(name=file.stem, work_dir=work_dir),
            events=EventsSection(
                files=(str(file.absolute()),),
                columns=EventColumnNames(user_id="user", item_id="item", timestamp="position"),
                event_types=(EVENT_TYPE,),
                default_event_type=EVENT_TYPE,
                target_event_types=(EVENT_TYPE,),
            ),
            items=ItemsSection(
                files=(str((attributes or file).absolute()),), item_id="item", text=(ATTRIBUTES,) if attributes else ()
            ),
            features=self.features,
            towers=self.towers,
            candidates=self.candidates,
            sources=self.sources,
            ranker=self.ranker.model_copy(update=fixed["ranker"]),
            training=self.training.model_copy(update=fixed["training"]),
            tune=self.tune,
            index=self.index,
        )


def _fixed(protocol: Protocol) -> dict[str, dict[str, Any]]:
    """What the protocol fixes, by section: a day is one place in a sequence, or one part of a dealt set."""
    ranker: dict[str, Any] = {"cut_every_days": 1, "horizon_days": 1}
    if protocol is Protocol.HOLDOUT:
        ranker["cuts"] = 1  # there is one part of labels before the validation's
    strict = protocol is Protocol.LEAVE_LAST_OUT
    training = {
        "train_end": ASKED_AT,
        "validation_days": 1,
        "item_users_min": 0,
        "sources_end": "towers" if strict else "cut",
    }
    return {"ranker": ranker, "training": training}


def read_plain_config(path: Path | None) -> PlainConfig:
    """The settings of a file, or the defaults.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a wrong key or value.
    """
    if path is None:
        return PlainConfig()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: the config cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    try:
        return PlainConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(problems(error))}") from error
