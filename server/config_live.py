"""Sections of the configuration about what changes while the server runs: store, log, states, events, catalogue."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from server.config_process import Count, Section


class StoreMode(StrEnum):
    """Who runs the store."""

    EMBEDDED = "embedded"
    EXTERNAL = "external"
    OFF = "off"


class Durability(StrEnum):
    """When an event is acknowledged."""

    EVERY_SECOND = "every_second"
    ALWAYS = "always"


class StoreConfig(Section):
    """The Valkey server that keeps events, recent states and catalogue changes."""

    mode: StoreMode = Field(
        StoreMode.EMBEDDED,
        description="`embedded`: a Valkey server of our own, started and watched on a unix socket; `external`: the one "
        "at `url`; `off`: nothing is remembered and events are refused.",
    )
    url: SecretStr | None = Field(
        None,
        description="`valkey://[:password@]host:port/db` or `unix:///path`, for mode `external`. One primary: a "
        "cluster is refused. Secret, since it may hold a password.",
    )
    directory: Path | None = Field(
        None, description="Where the embedded store keeps its files. Default: `store` beside the generations root."
    )
    durability: Durability = Field(
        Durability.EVERY_SECOND,
        description="Embedded: `every_second` survives any crash of processes and loses at most 2 s when the power "
        "fails; `always` has every event on disk before it is acknowledged. See store.md.",
    )
    memory_mb_max: Count = Field(
        4_096, description="Embedded: beyond it events are refused, since what is kept must never push out what was."
    )
    load_patience_s: float = Field(
        300.0, gt=0, description="How long a store may read its file after a start before it counts as failed."
    )
    read_timeout_ms: Count = Field(
        50, description="A read of recent states that takes longer is given up, and the answer is degraded."
    )
    write_timeout_ms: Count = Field(5_000, description="A write that takes longer fails with UNAVAILABLE.")

    @model_validator(mode="after")
    def _url_with_external(self) -> StoreConfig:
        if (self.mode is StoreMode.EXTERNAL) != (self.url is not None):
            raise ValueError("url goes with mode 'external', and mode 'external' needs url")
        return self


class LogConfig(Section):
    """How long the event log is kept. States and generations are not touched by it."""

    retention_days: Count = Field(90, description="Older events leave the log; learning reads them long before.")
    retention_mb: Count = Field(
        2_048, description="The oldest events leave the log beyond this; an event takes about 68 bytes."
    )


_SECTION_MAX = 32_767
"""Of a packed state's parts: twice as many must fit into 16 bits (server/state/packed.py)."""


class StateConfig(Section):
    """What is remembered of each shopper for the next answer."""

    deeds_max: Count = Field(
        200, le=_SECTION_MAX, description="Newest purchases, ratings and cart changes; 32 bytes each."
    )
    signals_max: Count = Field(
        64, le=_SECTION_MAX, description="Newest views and clicks; the user tower reads 50 events by default."
    )
    event_ids_max: Count = Field(
        256,
        le=_SECTION_MAX,
        description="Newest event ids, 8 bytes each: within so many events of a shopper a duplicate is noticed.",
    )
    cart_days: float = Field(
        30.0, gt=0, description="What was put into the cart longer ago is not taken for the cart placement's context."
    )
    idle_days: Count = Field(400, description="A shopper who did nothing for so long is forgotten.")


class EventKind(StrEnum):
    """What an event type is for the recent state."""

    DEED = "deed"
    SIGNAL = "signal"
    LOGGED = "logged"


def _default_types() -> dict[str, EventKind]:
    deeds = ("purchase", "add_to_cart", "remove_from_cart", "rate")
    return {
        **dict.fromkeys(deeds, EventKind.DEED),
        **dict.fromkeys(("view", "click"), EventKind.SIGNAL),
        **dict.fromkeys(("search", "impression"), EventKind.LOGGED),
    }


class EventsConfig(Section):
    """What events may say."""

    types: dict[str, EventKind] = Field(
        default_factory=_default_types,
        description="Event types and what they are for the recent state: `deed`s are kept longest, `signal`s are many, "
        "what is `logged` only is for learning. A shop's own types are added here; the standard ones need not be said.",
    )
    events_max: Count = Field(1_000, description="Events of one WriteEvents call or one message of a stream.")
    streams_max: Count = Field(64, description="StreamEvents streams open at once in one worker.")
    clock_skew_s: float = Field(
        300.0, ge=0, description="How far in the future an event's time may lie: clocks differ. It counts as just now."
    )
    query_bytes_max: Count = Field(512, description="Longest search query in UTF-8 bytes.")

    @field_validator("types")
    @classmethod
    def _with_the_standard_ones(cls, types: dict[str, EventKind]) -> dict[str, EventKind]:
        return {**_default_types(), **types}


class CatalogueConfig(Section):
    """Items that change while the server runs."""

    items_max: Count = Field(1_000, description="Items of one UpsertItems or DeleteItems call.")
    attributes_max: Count = Field(64, description="Attributes of one item.")
    text_bytes_max: Count = Field(4_096, description="Longest text of an attribute in UTF-8 bytes.")
    compact_at_items: Count = Field(
        2_000,
        description="So many new or changed items start a compaction into a new generation; until then they are "
        "searched exactly, beside the index.",
    )
    compact_interval_s_min: float = Field(
        600.0, gt=0, description="At least so long between two compactions: each costs a rebuild of the index."
    )
