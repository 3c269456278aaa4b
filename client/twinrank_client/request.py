"""What a caller asks: frozen dataclasses of the wire contract's fields, checked where a mistake would pass silently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from twinrank_client.filter import Filter


class RepeatPolicy(IntEnum):
    """What to do with items that the shopper has bought before."""

    PLACEMENT_DEFAULT = 0
    """The placement's own policy."""
    ALLOW = 1
    EXCLUDE_BOUGHT = 2


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """Something that a shopper just did, sent along so that the answer sees it.

    `event_type` is one the model knows (view, click, add_to_cart, purchase, …); empty means "view".
    `time` must be aware; None means the request's time.
    """

    item_id: str
    event_type: str = ""
    time: datetime | None = None

    def __post_init__(self) -> None:
        check_text("item_id", self.item_id)
        check_aware("time", self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendRequest:
    """One shopper and one place of the shop; everything may be left out.

    `page_size` 0 means the placement's own; an empty `placement` means "home". `context_item_ids` are the product
    page's item or the cart's items, `context` the shop's declared context columns. A `request_time` (aware) other than
    now is only answered where the server allows replay. `explain` and `timings` fill the answer's fields of that name.
    With a `position_token` from `write_events` the answer has seen those events, or says BEHIND_POSITION. `filter`
    narrows the list to items that fit; it falls short when too few do.

    Raises ValueError on a naive datetime and TypeError on an id that is not a string.
    """

    user_id: str = ""
    visitor_id: str = ""
    placement: str = ""
    session_id: str = ""
    recent_events: Sequence[RecentEvent] = ()
    context_item_ids: Sequence[str] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    request_time: datetime | None = None
    page_size: int = 0
    exclude_item_ids: Sequence[str] = ()
    repeat_policy: RepeatPolicy = RepeatPolicy.PLACEMENT_DEFAULT
    explain: bool = False
    timings: bool = False
    request_id: str = ""
    position_token: str = ""
    filter: Filter | None = None

    def __post_init__(self) -> None:
        check_text("user_id", self.user_id)
        check_text("visitor_id", self.visitor_id)
        check_aware("request_time", self.request_time)
        check_context(self.context)
        object.__setattr__(self, "recent_events", tuple(self.recent_events))
        object.__setattr__(self, "context_item_ids", _ids("context_item_ids", self.context_item_ids))
        object.__setattr__(self, "exclude_item_ids", _ids("exclude_item_ids", self.exclude_item_ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """Items that the caller already has, to be scored for one shopper; the other fields are RecommendRequest's."""

    item_ids: Sequence[str]
    user_id: str = ""
    visitor_id: str = ""
    placement: str = ""
    recent_events: Sequence[RecentEvent] = ()
    context_item_ids: Sequence[str] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    request_time: datetime | None = None
    request_id: str = ""
    position_token: str = ""

    def __post_init__(self) -> None:
        check_text("user_id", self.user_id)
        check_text("visitor_id", self.visitor_id)
        check_aware("request_time", self.request_time)
        check_context(self.context)
        object.__setattr__(self, "item_ids", _ids("item_ids", self.item_ids))
        object.__setattr__(self, "recent_events", tuple(self.recent_events))
        object.__setattr__(self, "context_item_ids", _ids("context_item_ids", self.context_item_ids))


@dataclass(frozen=True, slots=True)
class SimilarItemsRequest:
    """One item whose neighbours are wanted, whoever looks; `page_size` 0 means the server's default."""

    item_id: str
    page_size: int = 0
    exclude_item_ids: Sequence[str] = ()
    request_id: str = ""
    filter: Filter | None = None

    def __post_init__(self) -> None:
        check_text("item_id", self.item_id)
        object.__setattr__(self, "exclude_item_ids", _ids("exclude_item_ids", self.exclude_item_ids))


Request = RecommendRequest | ScoreRequest | SimilarItemsRequest


def check_aware(name: str, value: datetime | None) -> None:
    """Raises ValueError on a time without a zone."""
    if value is not None and value.utcoffset() is None:
        raise ValueError(
            f"{name} has no time zone: {value!r}; pass an aware datetime, such as datetime.now(timezone.utc)"
        )


def check_text(name: str, value: object) -> None:
    """Raises TypeError on what is no text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}: {value!r}")


def check_context(context: Mapping[str, str]) -> None:
    """Raises TypeError on a value that is no text."""
    for name, value in context.items():
        check_text(f"context[{name!r}]", value)


def _ids(name: str, values: Iterable[str]) -> tuple[str, ...]:
    # A lone string is iterable too, and would become one id a letter.
    if isinstance(values, str):
        raise TypeError(f"{name} must be a sequence of ids, not one string: {values!r}")
    ids = tuple(values)
    for value in ids:
        check_text(name, value)
    return ids
