"""The mapping file: which field of a row is which field of an event. Without one, both have the same names.

[fields]        user_id = "customer"  item_id = "payload.sku"    ours = theirs; a dot looks into nested objects
[constants]     event_type = "purchase"                          for rows that do not say
[context]       device = "agent.device"                          declared context columns
[event_types]   page_view = "view"  heartbeat = ""               theirs = ours; "" leaves such rows out
[time]          format = "epoch_ms"  zone = "Europe/Zurich"      the zone is for times that name none
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from server.connect.errors import MappingInvalid

TEXT_FIELDS = (
    "event_id",
    "event_type",
    "user_id",
    "visitor_id",
    "session_id",
    "item_id",
    "attribution_token",
    "query",
)
NUMBER_FIELDS = ("quantity", "value", "rating", "dwell_s")
TIME_FIELD = "time"
PLACE_FIELD = "position"
CONTEXT_FIELD = "context"
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, TIME_FIELD, PLACE_FIELD)
"""Of twinrank.v1.Event, all but `context`, which has a section of its own."""


class TimeFormat(StrEnum):
    """How a row writes a time."""

    AUTO = "auto"
    ISO8601 = "iso8601"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeSection(_Section):
    """How times are written."""

    format: TimeFormat = TimeFormat.AUTO
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{zone!r} is no time zone; write one such as 'Europe/Zurich' or 'UTC'") from error
        return zone


class Mapping(_Section):
    """A mapping file, checked."""

    fields: dict[str, str] = Field(default_factory=dict)
    constants: dict[str, str | float] = Field(default_factory=dict)
    context: dict[str, str] = Field(default_factory=dict)
    event_types: dict[str, str] = Field(default_factory=dict)
    time: TimeSection = TimeSection()

    @field_validator("fields", "constants")
    @classmethod
    def _our_names(cls, table: dict[str, str | float]) -> dict[str, str | float]:
        unknown = sorted(set(table) - set(FIELDS))
        if unknown:
            raise ValueError(f"an event has no field {', '.join(unknown)}; it has {', '.join(FIELDS)}")
        return table

    @field_validator("constants")
    @classmethod
    def _constant(cls, constants: dict[str, str | float]) -> dict[str, str | float]:
        for name in ("event_id", TIME_FIELD):
            if name in constants:
                raise ValueError(f"{name} cannot be the same for every event")
        return constants

    def source_of(self, field: str) -> tuple[str, ...]:
        """The path of names under which a row holds our field; empty when it is not to be read."""
        name = self.fields.get(field, field)
        return tuple(name.split(".")) if name else ()


def read_mapping(file: Path | None) -> Mapping:
    """The mapping of a file; None: fields are named as ours. Raises MappingInvalid."""
    if file is None:
        return Mapping()
    try:
        return Mapping.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise MappingInvalid(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingInvalid(f"{file}: not a TOML file: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise MappingInvalid(f"{file}: [{place}]: {first['msg'].removeprefix('Value error, ')}") from error
