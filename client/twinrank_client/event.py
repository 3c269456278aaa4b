"""What a shopper did, for `write_events`, and what the server made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from twinrank_client.request import check_aware, check_context, check_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a shopper did; at least one of `user_id` and `visitor_id` says who.

    `event_type`: "view", "click", "add_to_cart", "remove_from_cart", "purchase", "rate", "search", "impression", or one
    of the shop's own. Every event but a search has an `item_id`; "rate" has a `rating`. With both `user_id` and
    `visitor_id`, what the visitor did is the user's from then on.

    `event_id` makes it safe to send the event again: the same id of the same shopper counts once. The client makes one
    where it is empty. `time` must be aware; None is when the event arrives. `quantity` are pieces, `value` is money,
    `position` the place in the list that was shown, from 0. `attribution_token` comes from the answer that caused it.

    Raises ValueError on a naive datetime and TypeError on an id that is not a string.
    """

    event_type: str
    user_id: str = ""
    visitor_id: str = ""
    session_id: str = ""
    item_id: str = ""
    time: datetime | None = None
    quantity: float | None = None
    value: float | None = None
    rating: float | None = None
    position: int | None = None
    dwell_s: float | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    attribution_token: str = ""
    query: str = ""
    event_id: str = ""

    def __post_init__(self) -> None:
        for name in ("event_type", "user_id", "visitor_id", "session_id", "item_id", "event_id"):
            check_text(name, getattr(self, name))
        check_aware("time", self.time)
        check_context(self.context)


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """The store has the events: `written_count` new ones, the others it had already.

    With `position_token` in a RecommendRequest of the same shopper, the answer has seen them or says that it has not.
    """

    written_count: int
    duplicate_count: int
    position_token: str
    request_id: str = ""
