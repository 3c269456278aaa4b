"""Sections of the configuration about requests: their limits, their batches, their times, and the placements."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from server.config_process import Count, Section
from towers.settings import CandidateSettings, HeadWeights


class LimitsConfig(Section):
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
    filter_depth_max: Annotated[int, Field(ge=1, le=32)] = Field(
        8, description="Levels of a filter, one within another; a shop's own have three."
    )
    filter_conditions_max: Count = Field(64, description="Conditions of one filter, at all levels together.")
    filter_values_max: Count = Field(1_000, description="Values of one `is_in`; a few hundred brands are a long list.")
    filter_value_bytes_max: Count = Field(256, description="Longest text in a filter in UTF-8 bytes.")
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


class BatchingConfig(Section):
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


class TimeConfig(Section):
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


class PlacementRepeatPolicy(StrEnum):
    """Whether a placement offers what the shopper has bought before."""

    ALLOW = "allow"
    EXCLUDE_BOUGHT = "exclude_bought"


class ContextItems(StrEnum):
    """What a placement takes context_item_ids for."""

    IGNORE = "ignore"
    SEED = "seed"
    CART = "cart"


class PlacementConfig(Section):
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
    heads: HeadWeights = Field(
        default=HeadWeights(),
        description="What the ranker's heads (`buys`, `buys_again`, `value`, `rating`) weigh: powers in a product.",
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


def default_placements() -> dict[str, PlacementConfig]:
    """The placements of a file that names none."""
    return {
        "home": PlacementConfig(),
        "product": PlacementConfig(context_items=ContextItems.SEED),
        "cart": PlacementConfig(context_items=ContextItems.CART),
    }
