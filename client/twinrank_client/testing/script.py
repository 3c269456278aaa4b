"""What the fake server answers: lists, scores, failures and latency as programmed, without any transport."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from twinrank_client.answer import (
    CandidateSource,
    DegradedReason,
    Explanation,
    Recommendations,
    ScoredItem,
    Scores,
    SimilarItems,
    StageTimings,
)
from twinrank_client.errors import Failure
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.request import RecommendRequest, ScoreRequest, SimilarItemsRequest

Rpc = Literal["Recommend", "BatchRecommend", "StreamRecommend", "Score", "SimilarItems", "WriteEvents", "StreamEvents"]
Items = Iterable[str | ScoredItem]

GENERATION_ID = "fake-generation"
ATTRIBUTION_TOKEN = "fake-attribution"  # noqa: S105 — no secret
POSITION_TOKEN = "fake-position"  # noqa: S105 — no secret
PAGE_SIZE_DEFAULT = 20
_TIMINGS = StageTimings(queue_us=1, state_us=1, user_tower_us=1, retrieve_us=1, rank_us=1, batch_size=1)


@dataclass(slots=True)
class _ProgrammedFailure:
    """A failure to come: for which RPC (None: any), and how many times still (None: for ever)."""

    failure: Failure
    rpc: Rpc | None
    times: int | None


@dataclass(slots=True)
class Script:
    """The programmed answers. Not safe between threads: the fake server holds a lock around it."""

    latency_s: float = 0.0
    _lists: dict[tuple[str | None, str | None], list[ScoredItem]] = field(default_factory=dict)
    _neighbours: dict[str, list[ScoredItem]] = field(default_factory=dict)
    _scores: dict[str | None, dict[str, float]] = field(default_factory=dict)
    _failures: list[_ProgrammedFailure] = field(default_factory=list)
    _event_ids: set[tuple[str, str]] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)

    def give_list(self, items: Items, user_id: str | None, placement: str | None) -> None:
        """Programs one list."""
        self._lists[user_id, placement] = _rows(items)

    def give_neighbours(self, item_id: str, items: Items) -> None:
        """Programs one item's neighbours."""
        self._neighbours[item_id] = _rows(items)

    def give_scores(self, scores: Mapping[str, float], user_id: str | None) -> None:
        """Programs one shopper's scores."""
        self._scores[user_id] = dict(scores)

    def give_failure(self, failure: Failure, rpc: Rpc | None, times: int | None) -> None:
        """Programs a failure; those programmed first come first."""
        self._failures.append(_ProgrammedFailure(failure, rpc, times))

    def next_failure(self, rpc: Rpc) -> Failure | None:
        """How the next request of this RPC fails, None when it does not."""
        for programmed in self._failures:
            if programmed.rpc not in (None, rpc):
                continue
            if programmed.times is not None:
                programmed.times -= 1
                if programmed.times <= 0:
                    self._failures.remove(programmed)
            return programmed.failure
        return None

    def recommend(self, request: RecommendRequest) -> Recommendations:
        """The most particular list given: user and placement, user, placement, everybody; else an empty one."""
        user_id, placement = request.user_id or request.visitor_id, request.placement or "home"
        keys = [(user_id, placement), (user_id, None), (None, placement), (None, None)]
        rows = next((self._lists[key] for key in keys if key in self._lists), [])
        rows = _page(rows, request.page_size, request.exclude_item_ids)
        short = len(rows) < max(request.page_size, 1)
        return Recommendations(
            item_ids=tuple(row.item_id for row in rows),
            scores=tuple(row.score for row in rows),
            sources=tuple(row.source for row in rows),
            request_id=request.request_id,
            attribution_token=ATTRIBUTION_TOKEN,
            generation_id=GENERATION_ID,
            degraded=short,
            degraded_reason=DegradedReason.SHORTFALL if short else DegradedReason.UNKNOWN,
            timings=_TIMINGS if request.timings else None,
            explanations=tuple(row.explanation or _explain(row) for row in rows) if request.explain else (),
        )

    def write_events(self, events: Sequence[Event]) -> WriteReceipt:
        """Keeps the events that are new by shopper and event id."""
        written_count = 0
        for event in events:
            identity = (event.user_id or event.visitor_id, event.event_id)
            if event.event_id and identity in self._event_ids:
                continue
            self._event_ids.add(identity)
            self.events.append(event)
            written_count += 1
        return WriteReceipt(written_count, len(events) - written_count, POSITION_TOKEN)

    def score(self, request: ScoreRequest) -> Scores:
        """The shopper's scores, else everybody's; an item without one is unknown."""
        given = self._scores.get(request.user_id or request.visitor_id, self._scores.get(None, {}))
        return Scores(
            item_ids=tuple(request.item_ids),
            scores=tuple(given.get(item_id, 0.0) for item_id in request.item_ids),
            known=tuple(item_id in given for item_id in request.item_ids),
            request_id=request.request_id,
            generation_id=GENERATION_ID,
        )

    def similar_items(self, request: SimilarItemsRequest) -> SimilarItems | None:
        """The item's neighbours, None when none were given."""
        if request.item_id not in self._neighbours:
            return None
        rows = _page(self._neighbours[request.item_id], request.page_size, request.exclude_item_ids)
        return SimilarItems(
            item_ids=tuple(row.item_id for row in rows),
            scores=tuple(row.score for row in rows),
            request_id=request.request_id,
            generation_id=GENERATION_ID,
        )


def _rows(items: Items) -> list[ScoredItem]:
    if isinstance(items, str):
        raise TypeError(f"items must be a sequence, not one string: {items!r}")
    return [
        item if isinstance(item, ScoredItem) else ScoredItem(item, 1 / (rank + 2), CandidateSource.TWO_TOWER)
        for rank, item in enumerate(items)
    ]


def _page(rows: list[ScoredItem], page_size: int, exclude_item_ids: Collection[str]) -> list[ScoredItem]:
    return [row for row in rows if row.item_id not in exclude_item_ids][: page_size or PAGE_SIZE_DEFAULT]


def _explain(row: ScoredItem) -> Explanation:
    return Explanation(sources=(row.source,), similarity=row.score, times_bought=0.0, days_since_bought=-1.0)
