"""What the engine is asked and what it answers: plain values, no protobuf, no gRPC, no asyncio.

Ids are the shop's own strings; times are float seconds since the epoch, UTC. What is made for each request is a named
tuple: a frozen dataclass takes three times as long to make, and every request makes three of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from index.filters.expressions import Expression

if TYPE_CHECKING:
    from server.lists import ListColumns, MadeList  # needs numpy, which the supervisor does without

_NO_CONTEXT: Mapping[str, str] = MappingProxyType({})


class RepeatPolicy(IntEnum):
    """Whether items that the shopper has bought may be recommended again."""

    ALLOW = 1
    EXCLUDE_BOUGHT = 2


class Source(IntFlag):
    """The candidate sources that brought an item, as a bit set; `server.encoding` says which is named first."""

    NONE = 0
    TWO_TOWER = 1
    BUY_AGAIN = 2
    POPULAR = 4
    SIMILAR = 8
    ITEM_ITEM = 16
    BOUGHT_NEXT = 32
    BOUGHT_TOGETHER = 64
    USER_USER = 128
    ALS = 256
    BPR = 512
    LIGHT_GCN = 1024
    GRAPH_FILTER = 2048
    CONTENT = 4096
    TRENDING = 8192
    SEGMENT = 16384


class StateGap(IntEnum):
    """Whether an answer was made without something that the store should know of the shopper."""

    NONE = 0
    UNAVAILABLE = 1
    BEHIND_POSITION = 2


class RecentEvent(NamedTuple):
    """One thing a shopper did, sent with the request."""

    item_id: str
    event_type: str
    time_s: float


class Shopper(NamedTuple):
    """Who asks and what is known of them from the request itself.

    `position_ms`: the answer is to have seen the shopper's events up to there in the log; 0: whatever is there.
    """

    user_id: str = ""
    visitor_id: str = ""
    recent_events: tuple[RecentEvent, ...] = ()
    context_item_ids: tuple[str, ...] = ()
    context: Mapping[str, str] = _NO_CONTEXT
    position_ms: float = 0.0


class RecommendQuery(NamedTuple):
    """A valid request for a list; every limit has been checked and every default filled in at the edge."""

    placement: str
    shopper: Shopper
    request_time_s: float
    page_size: int
    repeat_policy: RepeatPolicy
    exclude_item_ids: tuple[str, ...] = ()
    explain: bool = False
    filter: Expression | None = None


class ScoreQuery(NamedTuple):
    """A valid request to score given items."""

    placement: str
    shopper: Shopper
    request_time_s: float
    item_ids: tuple[str, ...]


class SimilarItemsQuery(NamedTuple):
    """A valid request for the neighbours of one item."""

    item_id: str
    page_size: int
    exclude_item_ids: tuple[str, ...] = ()
    filter: Expression | None = None


Query = RecommendQuery | ScoreQuery | SimilarItemsQuery


@dataclass(frozen=True, slots=True)
class ItemExplanation:
    """Why one item is in the list; `days_since_bought` is negative when it was never bought."""

    sources: Source
    similarity: float
    times_bought: float
    days_since_bought: float


class RecommendAnswer(NamedTuple):
    """A list, best first: the one at `place` of its batch's lists. Ids, scores and sources are made when asked for."""

    lists: ListColumns
    place: int
    generation_id: str
    shortfall: bool
    explanations: Sequence[ItemExplanation] = ()
    gap: StateGap = StateGap.NONE

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, whatever else is in their batches."""
        return isinstance(other, RecommendAnswer) and (self.made, *self[2:]) == (other.made, *other[2:])

    @property
    def made(self) -> MadeList:
        """The list as Python's own objects, made when the first of its batch is asked for."""
        return self.lists.made()[self.place]

    @property
    def item_ids(self) -> list[str]:
        """The items."""
        return self.made.item_ids

    @property
    def scores(self) -> list[float]:
        """A score for each item."""
        return self.made.scores

    @property
    def sources(self) -> list[int]:
        """The bits of Source for each item: to make the flag itself costs more than to rank the item."""
        return self.made.sources


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """Scores in the query's order; an unknown item has score 0 and known False."""

    scores: list[float]
    known: list[bool]
    generation_id: str


@dataclass(frozen=True, slots=True)
class SimilarItemsAnswer:
    """Neighbours, most similar first; scores are cosines."""

    item_ids: list[str]
    scores: list[float]
    generation_id: str


@dataclass(frozen=True, slots=True)
class UnknownItem:
    """The answer to a query whose one item does not exist in the generation: an outcome, not a failure of the batch."""

    item_id: str
    generation_id: str


@dataclass(frozen=True, slots=True)
class FilterRefused:
    """The answer to a query whose filter was decoded for another generation than this, which cannot be asked it."""

    field: str
    description: str
    generation_id: str


Answer = RecommendAnswer | ScoreAnswer | SimilarItemsAnswer | UnknownItem | FilterRefused


class BatchTimings(NamedTuple):
    """Microseconds that one engine batch spent in each stage, and its size."""

    state_us: int
    user_tower_us: int
    retrieve_us: int
    rank_us: int
    batch_size: int
