"""A shop's config: one TOML file that maps the columns of its CSV and Parquet files to users, items and events.

    [shop]      name, work_dir
    [events]    files, columns, event types           [items], [users]   files, id, attributes
    [cleaning]  the rules (schema/cleaning.py)        the other sections belong to the stages that read them

Paths of data files are relative to the TOML file, `work_dir` is relative to the current directory.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from towers.schema.cleaning import Cleaning, Section
from towers.schema.errors import ConfigError
from towers.settings import (
    CandidateSettings,
    FeatureSettings,
    LearningSettings,
    RankerSettings,
    TowerSettings,
    TrainingSettings,
)
from towers.sources.settings import SourceSettings
from towers.tuning.settings import TuneSettings

PACKAGE_PREFIX = "package:"
TIMESTAMP_FORMATS = ("iso8601", "epoch_s", "epoch_ms", "epoch_us")

_EVENT_COLUMNS_ON_DISK = frozenset(
    ("user_row", "item_row", "event_type", "time_s", "session", "quantity", "value", "rating", "position", "dwell_s")
)


class ShopSection(Section):
    """Who the shop is and where its work lies."""

    name: str = Field(min_length=1, description="The shop's name, as reports print it.")
    work_dir: Path = Field(description="Directory for dataset, run and generations; relative to the current directory.")


class CsvFormat(Section):
    """How the shop writes CSV; Parquet files ignore it."""

    separator: str = Field(default=",", min_length=1, max_length=1, description="One character. Default: comma.")
    null_values: tuple[str, ...] = Field(
        default=(), description='Cells that mean "nothing" besides the empty one, for example "NA". Default: none.'
    )


class Source(Section):
    """One table: the files it lies in."""

    files: tuple[str, ...] = Field(
        min_length=1,
        description="Paths or globs of .csv, .tsv, .csv.gz or .parquet files, relative to the config; "
        "`package:NAME/path` is a file inside an installed Python package.",
    )
    csv: CsvFormat = CsvFormat()

    @field_validator("files")
    @classmethod
    def _relative_to_the_config(cls, files: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        directory = (info.context or {}).get("directory")
        if directory is None:
            return files
        return tuple(file if file.startswith(PACKAGE_PREFIX) else str(Path(directory, file)) for file in files)


class EventColumnNames(Section):
    """Which column of the events files holds what; a column that the shop does not have is left out."""

    user_id: str = Field(description="Who. Any type; read as text.")
    item_id: str = Field(description="What. Any type; read as text.")
    timestamp: str = Field(description="When; see timestamp_format.")
    event_type: str | None = Field(
        default=None, description="What was done; without it every event is default_event_type."
    )
    session_id: str | None = Field(default=None, description="Visit, basket or order. Any type; only equality counts.")
    quantity: str | None = Field(default=None, description="Pieces.")
    value: str | None = Field(default=None, description="Money, in the shop's currency.")
    rating: str | None = Field(default=None, description="The user's rating, on the shop's own scale.")
    position: str | None = Field(
        default=None, description="Place in the list where the item was shown; the shop's counting."
    )
    dwell_s: str | None = Field(default=None, description="Seconds spent with the item.")


class EventsSection(Source):
    """What users did with items."""

    columns: EventColumnNames
    timestamp_format: str = Field(
        default="iso8601",
        description='"iso8601" (date, or date and time, with or without an offset), "epoch_s", "epoch_ms", "epoch_us", '
        "or a strftime pattern. A Parquet column that is already a date or time ignores it.",
    )
    time_zone: str = Field(
        default="UTC", description="IANA zone of times that name none. Default UTC: the only one without lost hours."
    )
    event_types: tuple[str, ...] = Field(
        min_length=1,
        max_length=256,
        description="All event types, exactly as they stand in the file; the order is kept.",
    )
    default_event_type: str | None = Field(
        default=None,
        description="Type of events whose cell is empty, or of all when there is no such column. Default none: such "
        "rows are quarantined.",
    )
    target_event_types: tuple[str, ...] = Field(
        min_length=1, description="The types that count as success, for example purchase. A subset of event_types."
    )
    context: tuple[str, ...] = Field(
        default=(), description="Columns that describe the circumstances (device, place); read as categories."
    )

    @field_validator("timestamp_format")
    @classmethod
    def _format_known(cls, timestamp_format: str) -> str:
        if timestamp_format not in TIMESTAMP_FORMATS and "%" not in timestamp_format:
            raise ValueError(f"expected one of {', '.join(TIMESTAMP_FORMATS)} or a strftime pattern")
        return timestamp_format

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, OSError, ValueError) as error:
            raise ValueError(f"there is no time zone {name!r}") from error
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_distinct("event_types", self.event_types)
        _require_distinct("context", self.context)
        named = (*self.target_event_types, *([self.default_event_type] if self.default_event_type is not None else []))
        for name in named:
            if name not in self.event_types:
                raise ValueError(f"event type {name!r} is not among event_types {list(self.event_types)}")
        if self.columns.event_type is None and self.default_event_type is None:
            raise ValueError("without columns.event_type, default_event_type must say what the events are")
        for name in self.context:
            if name in _EVENT_COLUMNS_ON_DISK:
                raise ValueError(
                    f"context column {name!r} has the name of a column of the dataset; rename it in the file"
                )
        return self


class AttributeSource(Source):
    """A table of things with attributes: the columns to read, by kind."""

    categorical: tuple[str, ...] = Field(default=(), description="Columns with categories; numbers are read as text.")
    numeric: tuple[str, ...] = Field(default=(), description="Columns with quantities: price, size, age.")
    text: tuple[str, ...] = Field(default=(), description="Columns with free text: titles, descriptions.")

    @property
    def attributes(self) -> tuple[str, ...]:
        """All attribute columns: categorical, then numeric, then text."""
        return self.categorical + self.numeric + self.text

    @model_validator(mode="after")
    def _attributes_distinct(self) -> Self:
        _require_distinct("categorical, numeric and text", self.attributes)
        for reserved in ("item_id", "user_id"):
            if reserved in self.attributes:
                raise ValueError(f"{reserved!r} is an id, not an attribute")
        return self


class ItemsSection(AttributeSource):
    """The catalogue."""

    item_id: str = Field(description="Column of the item's id. Any type; read as text.")


class UsersSection(AttributeSource):
    """What is known of users. The whole section is optional."""

    user_id: str = Field(description="Column of the user's id. Any type; read as text.")


class ShopConfig(Section):
    """A shop's whole config."""

    shop: ShopSection
    events: EventsSection
    items: ItemsSection
    users: UsersSection | None = None
    cleaning: Cleaning = Cleaning()
    features: FeatureSettings = FeatureSettings()
    towers: TowerSettings = TowerSettings()
    candidates: CandidateSettings = CandidateSettings()
    sources: SourceSettings = SourceSettings()
    ranker: RankerSettings = RankerSettings()
    training: TrainingSettings = TrainingSettings()
    tune: TuneSettings = TuneSettings()
    index: dict[str, Any] = Field(default_factory=dict, description="Read by python -m index rebuild.")

    @property
    def learning(self) -> LearningSettings:
        """The sections that learning and retrieval read."""
        return LearningSettings(
            features=self.features,
            towers=self.towers,
            candidates=self.candidates,
            sources=self.sources,
            ranker=self.ranker,
            training=self.training,
        )

    @property
    def dataset_dir(self) -> Path:
        """Where ingest writes the dataset."""
        return self.shop.work_dir / "dataset"

    @property
    def run_dir(self) -> Path:
        """Where training keeps checkpoints and the model."""
        return self.shop.work_dir / "run"

    @property
    def generations_dir(self) -> Path:
        """Where published generations lie."""
        return self.shop.work_dir / "generations"

    def with_work_dir(self, work_dir: Path) -> ShopConfig:
        """Return the same shop with another work directory."""
        return self.model_copy(update={"shop": self.shop.model_copy(update={"work_dir": work_dir})})

    @model_validator(mode="after")
    def _learning_sections_agree(self) -> Self:
        try:
            _ = self.learning
        except ValidationError as error:
            raise ValueError("; ".join(problems(error))) from error
        return self

    @model_validator(mode="after")
    def _excluded_attributes_declared(self) -> Self:
        for entry in self.cleaning.excluded_items.where:
            if entry.attribute not in self.items.categorical:
                raise ValueError(
                    f"cleaning.excluded_items: {entry.attribute!r} is not among [items] categorical "
                    f"{list(self.items.categorical)}"
                )
        for attribute in self.features.affinity_attributes:
            if attribute not in self.items.categorical:
                raise ValueError(
                    f"features.affinity_attributes: {attribute!r} is not among [items] categorical "
                    f"{list(self.items.categorical)}"
                )
        return self


def read_shop_config(path: Path) -> ShopConfig:
    """Read a shop's TOML file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a wrong key or value; all of them are named.
    """
    try:
        with path.open("rb") as file:
            content: Mapping[str, Any] = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: the config cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    try:
        return ShopConfig.model_validate(content, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(problems(error))}") from error


def problems(error: ValidationError) -> list[str]:
    """One line for each wrong key or value."""
    problems = []
    for detail in error.errors(include_url=False):
        where = ".".join(str(part) for part in detail["loc"])
        value = "" if isinstance(detail["input"], dict) else f" (it is {detail['input']!r})"
        message = "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"].removeprefix("Value error, ")
        problems.append(f"{where}: {message}{value}" if where else message)
    return problems


def _require_distinct(what: str, names: tuple[str, ...]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{what} name {repeated} twice")
