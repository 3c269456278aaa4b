"""Sections of the configuration about the process: listeners, generations, workers, start and stop, logs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """One block of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)


class Front(StrEnum):
    """The transport of the public listener; docs/operations.md compares them."""

    GRPCIO = "grpcio"
    NATIVE = "native"


class ListenConfig(Section):
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


class MetricsConfig(Section):
    """The Prometheus listener."""

    enabled: bool = Field(True, description="Whether to listen for scrapes at all.")
    host: str = Field("127.0.0.1", description="Address of the metrics listener; loopback by default.")
    port: Port = Field(9464, description="Port of `/metrics`; 0 takes a free one and logs it.")


class AdminConfig(Section):
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


class GenerationsConfig(Section):
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


class LifecycleConfig(Section):
    """What happens on SIGTERM: NOT_SERVING, go on answering for `drain_s`, then finish what is in flight."""

    drain_s: float = Field(
        5.0, ge=0, description="How long to go on answering after health says NOT_SERVING, so that balancers notice."
    )
    stop_grace_s: float = Field(
        10.0, ge=0, description="How long requests in flight may take to finish after that; then they are cancelled."
    )


class WorkersConfig(Section):
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
        30.0,
        gt=0,
        description="Longest such wait; a cause that goes away is noticed within it. While no worker answers: 1 s.",
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


class LogsConfig(Section):
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
