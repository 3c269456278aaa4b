"""The server's configuration: one TOML file, overridden by environment variables such as `TWINRANK_LISTEN__PORT`.

Every limit has a unit in its name, a default, and in its description the reason for it; docs/configuration.md is
generated from here (`python -m server.configuration_page`). Unknown keys and unknown variables are errors.
"""

from __future__ import annotations

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from towers.settings import CandidateSettings

ENV_PREFIX = "TWINRANK_"
ENV_DELIMITER = "__"
DEFAULT_PLACEMENT = "home"

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the file, the key and the value."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)


class Front(StrEnum):
    """The transport of the public listener; docs/operations.md compares them."""

    GRPCIO = "grpcio"
    NATIVE = "native"


class ListenConfig(_Section):
    """The public listener: RecommendationService, health and reflection."""

    front: Front = Field(
        Front.GRPCIO,
        description="`grpcio` can do everything; `native` costs a seventh of its CPU on unary calls, and needs a mesh "
        "or proxy in front. `--front` overrides it.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; loopback until someone decides otherwise.")
    port: Port = Field(50051, description="TCP port; 0 takes a free one and logs it.")
    port_shared: bool = Field(
        False,
        description="SO_REUSEPORT: lets a successor or further workers take the same port. Off, so that a forgotten "
        "server on the port is an error and not half of the traffic.",
    )
    keepalive_interval_s: float = Field(
        60.0, gt=0, description="Pings a silent connection this often, so that dead peers are found and freed."
    )
    keepalive_timeout_s: float = Field(20.0, gt=0, description="Closes the connection when a ping stays unanswered.")
    client_ping_interval_s_min: float = Field(
        10.0, gt=0, description="Clients that ping more often than this are disconnected (ping flood)."
    )
    connection_age_s_max: float | None = Field(
        None,
        gt=0,
        description="Asks a client to connect anew after this long, so that load spreads over new servers; what is in "
        "flight then has `lifecycle.stop_grace_s` to finish. Not with `native`.",
    )
    tls_certificate_file: Path | None = Field(
        None,
        description="PEM chain of the listener's certificate; without one it speaks plain text. Not with `native`.",
    )
    tls_key_file: Path | None = Field(None, description="PEM private key of `tls_certificate_file`.")

    @model_validator(mode="after")
    def _front_can_do_it(self) -> ListenConfig:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        if self.front is Front.NATIVE:
            for name in ("tls_certificate_file", "connection_age_s_max"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} is set, and front 'native' cannot do it: use front 'grpcio', or unset it and let the "
                        "proxy in front do it"
                    )
        return self


class MetricsConfig(_Section):
    """The Prometheus listener."""

    enabled: bool = Field(True, description="Whether to listen for scrapes at all.")
    host: str = Field("127.0.0.1", description="Address of the metrics listener; loopback by default.")
    port: Port = Field(9464, description="Port of `/metrics`; 0 takes a free one and logs it.")


class AdminConfig(_Section):
    """The operator's listener: AdminService, never beside the public one."""

    enabled: bool = Field(True, description="Whether to listen for the operator at all.")
    host: str = Field("127.0.0.1", description="Address of the admin listener; loopback by default.")
    port: Port = Field(50052, description="Port of the admin listener; 0 takes a free one and logs it.")
    token: SecretStr | None = Field(
        None,
        description="Bearer token that admin calls carry in `authorization`. Better given by the environment or by "
        "`token_file` than written here.",
    )
    token_file: Path | None = Field(
        None,
        description="File that holds the token when `token` is unset. Default: `admin.token` beside the generations "
        "root. When the file does not exist a random token is written to it, readable by its owner only.",
    )


class GenerationsConfig(_Section):
    """Where published generations lie."""

    root: Path = Field(Path("var/generations"), description="Directory with one folder a generation and CURRENT.")
    poll_interval_s: float = Field(
        0.5, gt=0, description="How often CURRENT is looked at; a swap begins at most this much after a publication."
    )
    signature_key_file: Path | None = Field(
        None,
        description="File with the key of the generations' signatures. When set, an unsigned generation is refused; "
        "unset, whoever can write to the root is trusted.",
    )


class LimitsConfig(_Section):
    """What one request, one connection or everybody together may ask for."""

    message_size_bytes_max: Count = Field(
        1_048_576,
        description="Largest request message; a BatchRecommend of 64 shoppers with 200 events each is about 400 kB.",
    )
    metadata_size_bytes_max: Count = Field(16_384, description="Largest set of request headers; tracing needs < 1 kB.")
    id_bytes_max: Count = Field(128, description="Longest id in UTF-8 bytes; the contract promises 128.")
    recent_events_max: Count = Field(
        200, description="Events inline in one request; the user tower looks at fewer than that."
    )
    context_items_max: Count = Field(200, description="Context items of one request; a full cart is far smaller.")
    exclude_items_max: Count = Field(
        1_000, description="Excluded items of one request; bought items are left out by repeat_policy, not by this."
    )
    context_entries_max: Count = Field(32, description="Context entries of one request; shops declare a handful.")
    context_value_bytes_max: Count = Field(128, description="Longest context value in UTF-8 bytes; they are labels.")
    score_items_max: Count = Field(1_000, description="Items of one Score request; a page to re-rank, not a catalogue.")
    similar_page_size: Count = Field(20, description="Items that SimilarItems answers when page_size is 0.")
    similar_page_size_max: Count = Field(200, description="Most items that SimilarItems answers.")
    batch_requests_max: Count = Field(
        64, description="Requests in one BatchRecommend; more would delay other callers by whole engine batches."
    )
    concurrent_rpcs_max: Count = Field(
        1_000,
        description="Unary calls in flight at once; beyond it RESOURCE_EXHAUSTED, since waiting would help nobody.",
    )
    streams_max: Count = Field(
        100, description="StreamRecommend streams open at once; each holds a connection's memory."
    )
    stream_in_flight_max: Count = Field(
        64, description="Requests of one stream in flight; beyond it the stream is read no further (back-pressure)."
    )
    streams_per_connection_max: Count = Field(
        2_000,
        description="HTTP/2 streams on one connection; above concurrent_rpcs_max, so that admission answers first.",
    )
    default_deadline_ms: Count = Field(
        1_000, description="Deadline of a call that brings none: no request may wait for ever."
    )
    retry_after_ms: Count = Field(
        50, description="What RetryInfo asks of a caller under overload: time enough for several engine batches."
    )

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> LimitsConfig:
        if self.similar_page_size > self.similar_page_size_max:
            raise ValueError(f"similar_page_size is above similar_page_size_max {self.similar_page_size_max}")
        return self


class BatchingConfig(_Section):
    """The micro-batcher between the network and the engine."""

    queue_length_max: Count = Field(
        512, description="Queries that may wait for the engine: 16 full batches; who waits longer misses the deadline."
    )
    batch_size_max: Count = Field(
        32, description="Queries in one engine batch; larger ones cost less a query, and delay everybody in them."
    )

    @model_validator(mode="after")
    def _a_batch_fits_the_queue(self) -> BatchingConfig:
        if self.batch_size_max > self.queue_length_max:
            raise ValueError(
                f"batch_size_max {self.batch_size_max} is above queue_length_max {self.queue_length_max}: "
                "such a batch could never form"
            )
        return self


class TimeConfig(_Section):
    """Which times requests may carry."""

    replay_allowed: bool = Field(
        False,
        description="Whether request_time may lie anywhere in the past or future; for evaluations, not for shops.",
    )
    request_time_tolerance_s: float = Field(
        60.0, ge=0, description="How far from now request_time may lie without replay: clocks differ, queues delay."
    )
    clock_skew_s: float = Field(
        300.0,
        ge=0,
        description="How far after request_time an event may lie (it counts as just then): browsers' clocks.",
    )


class LifecycleConfig(_Section):
    """What happens on SIGTERM: NOT_SERVING, go on answering for `drain_s`, then finish what is in flight."""

    drain_s: float = Field(
        5.0, ge=0, description="How long to go on answering after health says NOT_SERVING, so that balancers notice."
    )
    stop_grace_s: float = Field(
        10.0, ge=0, description="How long requests in flight may take to finish after that; then they are cancelled."
    )


class WorkersConfig(_Section):
    """Worker processes that share the public port; a supervisor starts, watches and replaces them."""

    count: Count | None = Field(
        None,
        description="Worker processes; unset: as many as the cores that the process may use. With 1 there is no "
        "supervisor: one process does everything. `--workers N` overrides it.",
    )
    stable_after_s: float = Field(
        10.0, ge=0, description="A worker that crashes younger than this is a sign of a crash loop."
    )
    restart_delay_s: float = Field(
        0.25,
        gt=0,
        description="Wait before the second young crash in a row is replaced; doubles with each further one, since a "
        "crash at every start must not eat the cores of the others. The first is replaced at once.",
    )
    restart_delay_s_max: float = Field(
        30.0, gt=0, description="Longest such wait; a cause that goes away is noticed within it."
    )
    silent_reports_max: Count = Field(
        30,
        description="A worker that has left out this many of its reports, one a second, hangs; it is killed and "
        "replaced.",
    )


class LogLevel(StrEnum):
    """Lines below this are not written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogsConfig(_Section):
    """JSON lines on standard error. Requests are logged when they fail, are slow or are sampled, not one by one."""

    level: LogLevel = Field(LogLevel.INFO, description="Lines below this level are not written.")
    slow_request_ms: Count = Field(250, description="Requests that take longer are logged with their timings.")
    sample_every: int = Field(
        0, ge=0, description="Logs every n-th request; 0 logs none, since a line costs as much as a request's decoding."
    )
    error_lines_per_s_max: Count = Field(
        20,
        description="Lines a second about callers' errors; an overload must not drown the disk. Faults are all logged.",
    )


class PlacementRepeatPolicy(StrEnum):
    """Whether a placement offers what the shopper has bought before."""

    ALLOW = "allow"
    EXCLUDE_BOUGHT = "exclude_bought"


class ContextItems(StrEnum):
    """What a placement takes context_item_ids for."""

    IGNORE = "ignore"
    SEED = "seed"
    CART = "cart"


class PlacementConfig(_Section):
    """One named place in the shop where a list is shown: `[placements.<name>]`."""

    page_size: Count = Field(20, description="Items when the request says 0.")
    page_size_max: Count = Field(100, description="Most items of one answer; ranking cost grows with it.")
    repeat_policy: PlacementRepeatPolicy = Field(
        PlacementRepeatPolicy.ALLOW, description="Used when the request's repeat_policy is unspecified."
    )
    context_items: ContextItems = Field(
        ContextItems.IGNORE,
        description="`seed`: the product page's item, neighbours wanted; `cart`: chosen already, counts as context.",
    )
    candidates: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the engine's candidate sources for this placement."
    )

    @field_validator("candidates")
    @classmethod
    def _sources_known(cls, candidates: dict[str, Any]) -> dict[str, Any]:
        try:
            CandidateSettings(**candidates)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            raise ValueError("; ".join(problems)) from error
        return candidates

    @model_validator(mode="after")
    def _default_within_limit(self) -> PlacementConfig:
        if self.page_size > self.page_size_max:
            raise ValueError(f"page_size {self.page_size} is above page_size_max {self.page_size_max}")
        return self


def _default_placements() -> dict[str, PlacementConfig]:
    return {
        "home": PlacementConfig(),
        "product": PlacementConfig(context_items=ContextItems.SEED),
        "cart": PlacementConfig(context_items=ContextItems.CART),
    }


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
    placements: dict[str, PlacementConfig] = Field(default_factory=_default_placements)

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
