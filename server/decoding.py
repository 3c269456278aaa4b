"""Protobuf in, domain out: the only way into the engine, and where every field is checked and every default filled in.

All violations of a request are collected before it is refused, each under its path in the message
(`recent_events[2].time`, `requests[3].page_size`, `context["device"]`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import recommendation_pb2 as pb

from index.filters.kinds import AttributeKind
from server.config import DEFAULT_PLACEMENT, PlacementRepeatPolicy, ServerConfig
from server.domain import RecentEvent, RecommendQuery, RepeatPolicy, ScoreQuery, Shopper, SimilarItemsQuery
from server.errors import VIOLATIONS_MAX, InvalidRequest, MalformedMessage, Violation
from server.fields import check_count, check_id, check_ids, check_page_size, check_text, shown, timestamp_s
from server.filter_decoding import FilterDecoder
from server.plain_requests import PlacementLimits, PlainRequest, PlainRequests
from server.state.token import TokenInvalid, read_token

DEFAULT_EVENT_TYPE = "view"

_POLICY_OF_CONFIG = {
    PlacementRepeatPolicy.ALLOW: RepeatPolicy.ALLOW,
    PlacementRepeatPolicy.EXCLUDE_BOUGHT: RepeatPolicy.EXCLUDE_BOUGHT,
}
_POLICY_OF_WIRE = {
    pb.REPEAT_POLICY_ALLOW: RepeatPolicy.ALLOW,
    pb.REPEAT_POLICY_EXCLUDE_BOUGHT: RepeatPolicy.EXCLUDE_BOUGHT,
}


MessageT = TypeVar("MessageT", bound=Message)


def parse(kind: type[MessageT], raw: bytes) -> MessageT:
    """The message in the bytes. Raises `MalformedMessage`, without the parser's own words."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise MalformedMessage(kind.DESCRIPTOR.name) from error


class Decoder:
    """Decodes requests for one generation: the event types and context columns it knows, under the server's limits.

    Times given as `now_s` are seconds since the epoch. Every method raises `InvalidRequest`.
    """

    def __init__(
        self,
        config: ServerConfig,
        event_types: Collection[str],
        context_columns: Collection[str],
        attributes: Mapping[str, AttributeKind] | None = None,
    ) -> None:
        """`attributes`: what filters may name, None where the generation has nothing to filter by."""
        self._limits = config.limits
        self._id_bytes_max = config.limits.id_bytes_max
        self._time = config.time
        self._placements = {
            name: PlacementLimits(block.page_size, block.page_size_max, _POLICY_OF_CONFIG[block.repeat_policy])
            for name, block in config.placements.items()
        }
        self._event_types = frozenset(event_types)
        self._context_columns = frozenset(context_columns)
        self._filters = FilterDecoder(config.limits, attributes)
        tolerance_s = math.inf if config.time.replay_allowed else config.time.request_time_tolerance_s
        sizes = (self._id_bytes_max, config.limits.message_size_bytes_max)
        self._plain = PlainRequests(self._placements, DEFAULT_PLACEMENT, *sizes, tolerance_s)

    def plain(self, raws: Sequence[bytes], now_s: float) -> list[PlainRequest | None]:
        """For each RecommendRequest, as its bytes, what `recommend` makes of it; None: ask that. Does not raise."""
        return self._plain.decode(raws, now_s)

    def recommend(self, request: pb.RecommendRequest, now_s: float) -> RecommendQuery:
        """One list for one shopper."""
        violations: list[Violation] = []
        query = self._recommend(request, now_s, "", violations)
        return _valid(query, violations)

    def batch_recommend(self, request: pb.BatchRecommendRequest, now_s: float) -> list[RecommendQuery]:
        """Several lists; violations carry the prefix `requests[i].`."""
        violations: list[Violation] = []
        queries: list[RecommendQuery | None] = []
        if not request.requests:
            violations.append(Violation("requests", "must hold at least one request"))
        elif check_count(len(request.requests), self._limits.batch_requests_max, "requests", violations):
            for position, entry in enumerate(request.requests):
                queries.append(self._recommend(entry, now_s, f"requests[{position}].", violations))
                if len(violations) >= VIOLATIONS_MAX:
                    break
        if violations:
            raise InvalidRequest(violations)
        return [query for query in queries if query is not None]

    def stream_recommend(self, request: pb.StreamRecommendRequest, now_s: float) -> RecommendQuery:
        """One message of a stream: its request_id is what correlates the answer, so it must be there."""
        violations: list[Violation] = []
        query: RecommendQuery | None = None
        if not request.HasField("request"):
            violations.append(Violation("request", "must be set"))
        else:
            if not request.request.request_id:
                violations.append(Violation("request.request_id", "must not be empty on a stream: it names the answer"))
            query = self._recommend(request.request, now_s, "request.", violations)
        return _valid(query, violations)

    def score(self, request: pb.ScoreRequest, now_s: float) -> ScoreQuery:
        """Given items, for one shopper."""
        violations: list[Violation] = []
        limits = self._limits
        check_text(request.request_id, limits.id_bytes_max, "request_id", violations)
        placement, _ = self._placement(request.placement, "", violations)
        request_time_s = now_s
        if request.HasField("request_time"):
            request_time_s = self._request_time_s(request.request_time, now_s, "", violations)
        shopper = self._shopper(request, request_time_s, "", violations)
        if not request.item_ids:
            violations.append(Violation("item_ids", "must hold at least one item"))
        item_ids = check_ids(request.item_ids, limits.score_items_max, limits.id_bytes_max, "item_ids", violations)
        if violations:
            raise InvalidRequest(violations)
        return ScoreQuery(placement, shopper, request_time_s, item_ids)

    def similar_items(self, request: pb.SimilarItemsRequest) -> SimilarItemsQuery:
        """Neighbours of one item."""
        violations: list[Violation] = []
        limits = self._limits
        id_max = limits.id_bytes_max
        check_text(request.request_id, id_max, "request_id", violations)
        check_id(request.item_id, id_max, "item_id", violations)
        page_size = check_page_size(
            request.page_size, limits.similar_page_size, limits.similar_page_size_max, "page_size", violations
        )
        excluded = check_ids(request.exclude_item_ids, limits.exclude_items_max, id_max, "exclude_item_ids", violations)
        allowed = None
        if request.HasField("filter"):
            allowed = self._filters.decode(request.filter, "filter", violations)
        if violations:
            raise InvalidRequest(violations)
        return SimilarItemsQuery(request.item_id, page_size, excluded, allowed)

    def _recommend(
        self, request: pb.RecommendRequest, now_s: float, prefix: str, violations: list[Violation]
    ) -> RecommendQuery | None:
        id_max = self._id_bytes_max
        check_text(request.request_id, id_max, prefix + "request_id", violations)
        if request.session_id:
            check_text(request.session_id, id_max, prefix + "session_id", violations)
        placement, block = self._placement(request.placement, prefix, violations)
        request_time_s = now_s
        if request.HasField("request_time"):
            request_time_s = self._request_time_s(request.request_time, now_s, prefix, violations)
        shopper = self._shopper(request, request_time_s, prefix, violations)
        excluded: tuple[str, ...] = ()
        if request.exclude_item_ids:
            path = prefix + "exclude_item_ids"
            excluded = check_ids(request.exclude_item_ids, self._limits.exclude_items_max, id_max, path, violations)
        allowed = None
        if request.HasField("filter"):
            allowed = self._filters.decode(request.filter, prefix + "filter", violations)
        policy = request.repeat_policy
        if policy != pb.REPEAT_POLICY_UNSPECIFIED and policy not in _POLICY_OF_WIRE:
            known = ", ".join(pb.RepeatPolicy.keys())
            violations.append(Violation(prefix + "repeat_policy", f"{int(policy)} is no RepeatPolicy; known: {known}"))
        if block is None:
            return None
        page_size = check_page_size(
            request.page_size, block.page_size, block.page_size_max, prefix + "page_size", violations
        )
        if violations:
            return None
        return RecommendQuery(
            placement,
            shopper,
            request_time_s,
            page_size,
            _POLICY_OF_WIRE[policy] if policy else block.repeat_policy,
            excluded,
            request.read_options.explain,
            allowed,
        )

    def _placement(self, name: str, prefix: str, violations: list[Violation]) -> tuple[str, PlacementLimits | None]:
        name = name or DEFAULT_PLACEMENT
        block = self._placements.get(name)
        if block is None:
            known = ", ".join(sorted(self._placements))
            violations.append(Violation(prefix + "placement", f"{shown(name)} is not configured; known: {known}"))
        return name, block

    def _request_time_s(self, value: Timestamp, now_s: float, prefix: str, violations: list[Violation]) -> float:
        path = prefix + "request_time"
        time_s = timestamp_s(value, path, violations)
        if time_s is None:
            return now_s
        tolerance_s = self._time.request_time_tolerance_s
        if not self._time.replay_allowed and abs(time_s - now_s) > tolerance_s:
            violations.append(
                Violation(
                    path,
                    f"is {abs(time_s - now_s):.0f} s {'before' if time_s < now_s else 'after'} now; at most "
                    f"{tolerance_s:g} s are allowed, since this server does not allow replay",
                )
            )
        return time_s

    def _shopper(
        self,
        request: pb.RecommendRequest | pb.ScoreRequest,
        request_time_s: float,
        prefix: str,
        violations: list[Violation],
    ) -> Shopper:
        limits = self._limits
        id_max = self._id_bytes_max
        user_id, visitor_id = request.user_id, request.visitor_id
        check_text(user_id, id_max, prefix + "user_id", violations)
        if visitor_id:
            check_text(visitor_id, id_max, prefix + "visitor_id", violations)
        recent_events: tuple[RecentEvent, ...] = ()
        if request.recent_events:
            recent_events = self._recent_events(request.recent_events, request_time_s, prefix, violations)
        context_item_ids: tuple[str, ...] = ()
        if request.context_item_ids:
            path = prefix + "context_item_ids"
            context_item_ids = check_ids(request.context_item_ids, limits.context_items_max, id_max, path, violations)
        context = self._context(request.context, prefix, violations) if request.context else {}
        position_ms = 0.0
        if request.position_token:
            position_ms = self._position_ms(request.position_token, prefix, violations)
        return Shopper(user_id, visitor_id, recent_events, context_item_ids, context, position_ms)

    def _position_ms(self, token: str, prefix: str, violations: list[Violation]) -> float:
        try:
            return read_token(token)
        except TokenInvalid as error:
            path = prefix + "position_token"
            violations.append(Violation(path, f"{shown(token)} {error}; give back what WriteEvents returned"))
            return 0.0

    def _recent_events(
        self, events: Sequence[pb.RecentEvent], request_time_s: float, prefix: str, violations: list[Violation]
    ) -> tuple[RecentEvent, ...]:
        if not check_count(len(events), self._limits.recent_events_max, prefix + "recent_events", violations):
            return ()
        decoded = []
        before = len(violations)
        id_max, known_types = self._limits.id_bytes_max, self._event_types
        id_safe = id_max // 4
        for position, event in enumerate(events):
            item_id = event.item_id
            if not item_id or len(item_id) > id_safe or not item_id.isprintable():  # a path costs more than the checks
                check_id(item_id, id_max, f"{prefix}recent_events[{position}].item_id", violations)
            event_type = event.event_type or DEFAULT_EVENT_TYPE
            if event_type not in known_types:
                known = ", ".join(sorted(known_types))
                path = f"{prefix}recent_events[{position}].event_type"
                violations.append(Violation(path, f"the model does not know {shown(event_type)}; known: {known}"))
            time_s = request_time_s
            if event.HasField("time"):
                time_s = self._event_time_s(event.time, request_time_s, prefix, position, violations)
            if len(violations) - before >= VIOLATIONS_MAX:
                break
            decoded.append(RecentEvent(item_id, event_type, time_s))
        return tuple(decoded)

    def _event_time_s(
        self, value: Timestamp, request_time_s: float, prefix: str, position: int, violations: list[Violation]
    ) -> float:
        time_s = value.seconds + value.nanos * 1e-9
        if 0 <= value.nanos <= 999_999_999 and 0 <= time_s <= request_time_s:
            return time_s
        path = f"{prefix}recent_events[{position}].time"
        checked_s = timestamp_s(value, path, violations)
        if checked_s is not None and checked_s > request_time_s + self._time.clock_skew_s:
            violations.append(
                Violation(
                    path,
                    f"is {checked_s - request_time_s:.0f} s after the request's time; "
                    f"at most {self._time.clock_skew_s:g} s are allowed",
                )
            )
        return request_time_s

    def _context(self, context: Mapping[str, str], prefix: str, violations: list[Violation]) -> dict[str, str]:
        if not check_count(len(context), self._limits.context_entries_max, prefix + "context", violations):
            return {}
        entries = dict(context)
        for column, value in entries.items():
            path = f'{prefix}context["{column[:40]}"]'
            if column not in self._context_columns:
                known = ", ".join(sorted(self._context_columns)) or "none"
                violations.append(Violation(path, f"is no context column of this shop; declared: {known}"))
            else:
                check_text(value, self._limits.context_value_bytes_max, path, violations)
        return entries


def _valid(query: RecommendQuery | None, violations: list[Violation]) -> RecommendQuery:
    if violations or query is None:
        raise InvalidRequest(violations)
    return query
