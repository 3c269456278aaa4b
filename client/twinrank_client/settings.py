"""How a client connects, waits and retries: small value objects, every limit named, with its default and its reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import grpc

SERVICE = "twinrank.v1.RecommendationService"
EVENT_SERVICE = "twinrank.v1.EventService"

UNARY_TIMEOUT_S_DEFAULT = 1.0
"""A page that waits longer than this shows something else; the server itself answers in milliseconds."""
BATCH_TIMEOUT_S_DEFAULT = 10.0
"""A batch carries many shoppers, usually for a mailing: nobody waits in front of it."""

RETRY_ATTEMPTS_MAX_DEFAULT = 3
"""The first attempt and two more; with the backoff below they take at most 60 ms of a page's time."""
RETRY_ATTEMPTS_LIMIT = 5
"""gRPC itself makes no more attempts than this."""
RETRY_BACKOFF_MS_DEFAULT = 20
RETRY_BACKOFF_MS_MAX_DEFAULT = 200
RETRY_TOKENS_MAX = 100
"""Retries stop while more than half of these are spent: a failure spends one, a success gives a tenth back."""

ANSWER_SIZE_BYTES_MAX_DEFAULT = 4 * 1024 * 1024
"""gRPC's own default; an answer of 100 explained items has some 10 kB."""
REQUEST_SIZE_BYTES_MAX_DEFAULT = 4 * 1024 * 1024
CHANNEL_COUNT_MAX = 64
RECONNECT_BACKOFF_MS_MIN = 100
"""gRPC's own first wait is a second: too long when a server restarts behind the same address."""
RECONNECT_BACKOFF_MS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Timeout:
    """Deadlines in seconds, for each kind of call; None waits for ever, which only a stream should."""

    unary_s: float | None = UNARY_TIMEOUT_S_DEFAULT
    batch_s: float | None = BATCH_TIMEOUT_S_DEFAULT
    stream_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("unary_s", "batch_s", "stream_s"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be above 0, not {seconds!r}")


@dataclass(frozen=True, slots=True)
class Retry:
    """What gRPC does about UNAVAILABLE and RESOURCE_EXHAUSTED; the call's deadline spans all attempts.

    The waits between attempts are about `backoff_ms`, then twice that, and so on up to `backoff_ms_max`; a server under
    overload names the wait itself (`grpc-retry-pushback-ms`) and is obeyed. `attempts_max` 1 retries nothing. With
    `wait_for_ready` a call waits, up to its deadline, for a server that is not there yet, instead of failing at once.
    """

    attempts_max: int = RETRY_ATTEMPTS_MAX_DEFAULT
    backoff_ms: int = RETRY_BACKOFF_MS_DEFAULT
    backoff_ms_max: int = RETRY_BACKOFF_MS_MAX_DEFAULT
    wait_for_ready: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.attempts_max <= RETRY_ATTEMPTS_LIMIT:
            raise ValueError(f"attempts_max must be 1 to {RETRY_ATTEMPTS_LIMIT}, not {self.attempts_max!r}")
        if not 1 <= self.backoff_ms <= self.backoff_ms_max:
            raise ValueError(
                f"backoff_ms must be 1 to backoff_ms_max ({self.backoff_ms_max!r}), not {self.backoff_ms!r}"
            )

    def service_config(self) -> str:
        """The gRPC service config (JSON) that says the same."""
        method: dict[str, Any] = {
            # An event stream is not repeated by gRPC: it keeps what is not acknowledged itself.
            "name": [{"service": SERVICE}, {"service": EVENT_SERVICE, "method": "WriteEvents"}],
            "waitForReady": self.wait_for_ready,
        }
        config: dict[str, Any] = {"methodConfig": [method]}
        if self.attempts_max > 1:
            method["retryPolicy"] = {
                "maxAttempts": self.attempts_max,
                "initialBackoff": f"{self.backoff_ms / 1000:.3f}s",
                "maxBackoff": f"{self.backoff_ms_max / 1000:.3f}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            }
            config["retryThrottling"] = {"maxTokens": RETRY_TOKENS_MAX, "tokenRatio": 0.1}
        return json.dumps(config)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one message may be, in bytes; a larger one fails the call (Overloaded, as gRPC codes it)."""

    answer_size_bytes_max: int = ANSWER_SIZE_BYTES_MAX_DEFAULT
    request_size_bytes_max: int = REQUEST_SIZE_BYTES_MAX_DEFAULT


@dataclass(frozen=True, slots=True)
class Tls:
    """An encrypted connection; PEM bytes, all optional: the system's authorities, and no certificate of one's own.

    `server_name` is what the server's certificate must be for when it is not the target's host.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = None
    certificate_chain: bytes | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """gRPC's form of it."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)


TIMEOUT_DEFAULT = Timeout()
RETRY_DEFAULT = Retry()
LIMITS_DEFAULT = Limits()


def channel_options(retry: Retry, limits: Limits, tls: Tls | None) -> list[tuple[str, Any]]:
    """gRPC's channel arguments. Each channel gets its own connection: gRPC would share one between equal channels."""
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", retry.service_config()),
        ("grpc.enable_retries", 1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", limits.answer_size_bytes_max),
        ("grpc.max_send_message_length", limits.request_size_bytes_max),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MS_MIN),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_BACKOFF_MS_MIN),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_BACKOFF_MS_MAX),
    ]
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options
