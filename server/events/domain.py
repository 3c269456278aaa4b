"""Events as the rest of the code knows them: no protobuf, no bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event of the log. An empty text is one that the event has not.

    Attributes:
        position: the entry's id in the log of its shard, "ms-seq"; milliseconds of the store's clock.
        event_id: the caller's own id.
        event_type: one of the configuration's `events.types` when it was written.
        user_id, visitor_id: at least one of them.
        time_s: when it happened, seconds since the epoch.
        quantity: pieces, as float32.
        value: money, in the shop's currency.
        rating: for "rate", as float32.
        list_position: place in the list that was shown, from 0.
        dwell_s: how long the shopper stayed, as float32.
        context: declared context columns.
        attribution_token: from the answer that caused the event.
        query: what was searched for.
        signs_in: both ids stood in the event: what the visitor did is the user's from then on.
    """

    position: str
    event_id: str
    event_type: str
    user_id: str
    visitor_id: str
    session_id: str
    item_id: str
    time_s: float
    quantity: float = 1.0
    value: float | None = None
    rating: float | None = None
    list_position: int | None = None
    dwell_s: float | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    attribution_token: str = ""
    query: str = ""
    signs_in: bool = False

    @property
    def position_ms(self) -> int:
        """When it came into the log, milliseconds of the store's clock."""
        return int(self.position.partition("-")[0])


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """What became of events that the store has now.

    Attributes:
        written_count: new events.
        duplicate_count: events that it had already, or that happened before their person was purged.
        last_ms: the newest position among the shoppers concerned, milliseconds of the store's clock.
        person_key: the state whose position that is.
    """

    written_count: int
    duplicate_count: int
    last_ms: float
    person_key: str


@dataclass(frozen=True, slots=True)
class PurgeReceipt:
    """What was removed of a person, and what is only hidden until it is pruned.

    Attributes:
        purged_ms: when, milliseconds of the store's clock.
        log_event_count: events removed from the log.
        state_event_count: events removed from recent states.
        visitor_ids: visitors that had become the user, purged too.
        generation_ids: generations on disk that hold something of the person.
    """

    purged_ms: float
    log_event_count: int
    state_event_count: int
    visitor_ids: tuple[str, ...]
    generation_ids: tuple[str, ...]
