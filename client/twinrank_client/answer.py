"""What the server answers: frozen dataclasses of columns, each with an `items` view for those who prefer rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from twinrank_client.errors import TwinrankError


class CandidateSource(IntEnum):
    """Which source of candidates brought an item; a source that this client does not know yet is UNKNOWN."""

    UNKNOWN = 0
    TWO_TOWER = 1
    BUY_AGAIN = 2
    POPULAR = 3
    SIMILAR = 4
    ITEM_ITEM = 5
    BOUGHT_NEXT = 6
    BOUGHT_TOGETHER = 7
    USER_USER = 8
    ALS = 9
    BPR = 10
    LIGHT_GCN = 11
    GRAPH_FILTER = 12
    CONTENT = 13
    TRENDING = 14
    SEGMENT = 15


class DegradedReason(IntEnum):
    """Why an answer is less than the server's best; a reason that this client does not know yet is UNKNOWN."""

    UNKNOWN = 0
    SHORTFALL = 1
    """Fewer items exist than page_size after exclusions and filter."""
    STATE_UNAVAILABLE = 2
    """The store of recent events did not answer: only the model and the request's own events were seen."""
    BEHIND_POSITION = 3
    """The events of the request's position_token were not seen."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item is in the list.

    `similarity` is the cosine of the shopper's and the item's embedding; `days_since_bought` is negative when the
    shopper never bought the item.
    """

    sources: tuple[CandidateSource, ...]
    similarity: float
    times_bought: float
    days_since_bought: float


@dataclass(frozen=True, slots=True)
class StageTimings:
    """Where the server's time went, in microseconds; the stages after the queue are shared by one engine batch."""

    queue_us: int
    state_us: int
    user_tower_us: int
    retrieve_us: int
    rank_us: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """One row of Recommendations."""

    item_id: str
    score: float
    source: CandidateSource = CandidateSource.UNKNOWN
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Recommendations:
    """A list, best first, in columns of one length.

    `scores` are calibrated probabilities that the shopper buys the item within the model's horizon. `explanations` has
    one entry for each item when the request asked for it, else none; `timings` likewise. Send `attribution_token` back
    with the events that this list causes.
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    sources: tuple[CandidateSource, ...]
    request_id: str = ""
    attribution_token: str = ""
    generation_id: str = ""
    degraded: bool = False
    degraded_reason: DegradedReason = DegradedReason.UNKNOWN
    timings: StageTimings | None = None
    explanations: tuple[Explanation, ...] = ()

    @property
    def items(self) -> tuple[ScoredItem, ...]:
        """The columns as rows."""
        explanations = self.explanations or (None,) * len(self.item_ids)
        rows = zip(self.item_ids, self.scores, self.sources, explanations, strict=True)
        return tuple(ScoredItem(*row) for row in rows)

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One row of Scores; `score` is 0 where `known` is False."""

    item_id: str
    score: float
    known: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities in the order of the request's items; `known` is False for an item that the generation lacks."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    known: tuple[bool, ...]
    request_id: str = ""
    generation_id: str = ""

    @property
    def items(self) -> tuple[ItemScore, ...]:
        """The columns as rows."""
        return tuple(ItemScore(*row) for row in zip(self.item_ids, self.scores, self.known, strict=True))

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, slots=True)
class SimilarItem:
    """One row of SimilarItems; `score` is a cosine, -1 to 1."""

    item_id: str
    score: float


@dataclass(frozen=True, slots=True)
class SimilarItems:
    """Neighbours of an item, most similar first; `scores` are cosines, -1 to 1."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    request_id: str = ""
    generation_id: str = ""

    @property
    def items(self) -> tuple[SimilarItem, ...]:
        """The columns as rows."""
        return tuple(SimilarItem(*row) for row in zip(self.item_ids, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """The answer to one request of a stream: recommendations, or the error of that one request; the stream goes on."""

    request_id: str
    recommendations: Recommendations | None = None
    error: TwinrankError | None = None

    def result(self) -> Recommendations:
        """The recommendations; raises the error when the request failed."""
        if self.error is not None:
            raise self.error
        assert self.recommendations is not None, "an answer holds recommendations or an error"
        return self.recommendations
