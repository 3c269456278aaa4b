"""The server's configuration: one TOML file, overridden by environment variables such as `TWINRANK_LISTEN__PORT`.

Every limit has a unit in its name, a default, and in its description the reason for it; docs/configuration.md is
generated from here (`python -m server.configuration_page`). Unknown keys and unknown variables are errors.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from server.config_live import (
    CatalogueConfig,
    Durability,
    EventKind,
    EventsConfig,
    LogConfig,
    StateConfig,
    StoreConfig,
    StoreMode,
)
from server.config_process import (
    AdminConfig,
    Front,
    GenerationsConfig,
    LifecycleConfig,
    ListenConfig,
    LogLevel,
    LogsConfig,
    MetricsConfig,
    WorkersConfig,
)
from server.config_requests import (
    BatchingConfig,
    ContextItems,
    LimitsConfig,
    PlacementConfig,
    PlacementRepeatPolicy,
    TimeConfig,
    default_placements,
)

__all__ = [
    "AdminConfig",
    "BatchingConfig",
    "CatalogueConfig",
    "ConfigError",
    "ContextItems",
    "Durability",
    "EventKind",
    "EventsConfig",
    "Front",
    "GenerationsConfig",
    "LifecycleConfig",
    "LimitsConfig",
    "ListenConfig",
    "LogConfig",
    "LogLevel",
    "LogsConfig",
    "MetricsConfig",
    "PlacementConfig",
    "PlacementRepeatPolicy",
    "ServerConfig",
    "StateConfig",
    "StoreConfig",
    "StoreMode",
    "TimeConfig",
    "WorkersConfig",
    "read_config",
]

ENV_PREFIX = "TWINRANK_"
ENV_DELIMITER = "__"
DEFAULT_PLACEMENT = "home"


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the file, the key and the value."""


class ServerConfig(BaseSettings):
    """Everything that `python -m server` can be told."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER
    )

    listen: ListenConfig = ListenConfig()
    metrics: MetricsConfig = MetricsConfig()
    admin: AdminConfig = AdminConfig()
    generations: GenerationsConfig = GenerationsConfig()
    limits: LimitsConfig = LimitsConfig()
    batching: BatchingConfig = BatchingConfig()
    time: TimeConfig = TimeConfig()
    lifecycle: LifecycleConfig = LifecycleConfig()
    workers: WorkersConfig = WorkersConfig()
    logs: LogsConfig = LogsConfig()
    store: StoreConfig = StoreConfig()
    log: LogConfig = LogConfig()
    state: StateConfig = StateConfig()
    events: EventsConfig = EventsConfig()
    catalogue: CatalogueConfig = CatalogueConfig()
    placements: dict[str, PlacementConfig] = Field(default_factory=default_placements)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the names are pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, and nothing else is looked at."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _default_placement_exists(self) -> ServerConfig:
        if DEFAULT_PLACEMENT not in self.placements:
            raise ValueError(f"placements must hold {DEFAULT_PLACEMENT!r}: it answers requests that name none")
        return self


def read_config(path: Path | None = None) -> ServerConfig:
    """The configuration of a TOML file (or the defaults) with the environment on top.

    Raises:
        ConfigError: the file is missing or no TOML, or a key or value is wrong; the message has one line for each.
    """
    table: dict[str, Any] = {}
    source = "the environment"
    if path is not None:
        source = str(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    _refuse_unknown_variables()
    try:
        return ServerConfig(**table)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'configuration'}: {item['msg']}" for item in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from error


def _refuse_unknown_variables() -> None:
    for name in os.environ:
        if not name.upper().startswith(ENV_PREFIX) or ENV_DELIMITER not in name:
            continue
        section = name[len(ENV_PREFIX) :].split(ENV_DELIMITER)[0].lower()
        if section not in ServerConfig.model_fields:
            known = ", ".join(sorted(ServerConfig.model_fields))
            raise ConfigError(f"environment variable {name}: no section {section!r}; known: {known}")
