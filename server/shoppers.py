"""From queries to what the models read: ids to rows; recent states, inline events and context items into histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from server.config import ContextItems
from server.domain import RecommendQuery, ScoreQuery, Shopper
from server.serving_model import ServingModel
from server.state.recent import ShopperStates
from server.state.resolve import StateResolver
from towers.features.histories import ExtraBatch, ExtraEvents
from towers.recommender import Shoppers

_NO_ROWS = np.zeros(0, np.int32)
_CONTEXT_EVENT_TYPES = {ContextItems.CART: ("add_to_cart", "cart"), ContextItems.SEED: ("view", "click")}


@dataclass(frozen=True, slots=True)
class Readied:
    """B queries, ready for the models.

    Attributes:
        shoppers: histories and codes.
        seeds: (B, S) rows of known context items, -1 pads; None where none is known or the placement ignores them.
        excluded_request, excluded_row: (n,) pairs that may not be shown: excluded ids and context items.
    """

    shoppers: Shoppers
    seeds: NDArray[np.int32] | None
    excluded_request: NDArray[np.int64]
    excluded_row: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RecentSettings:
    """How recent states are read.

    Attributes:
        clock_skew_s: how far after a request an event may lie and still count, as just then.
        cart_days: what was put into the cart longer ago lies there no more.
    """

    clock_skew_s: float = 300.0
    cart_days: float = 30.0


class ShopperReader:
    """Reads queries against one generation."""

    def __init__(self, serving: ServingModel, recent: RecentSettings = RecentSettings()) -> None:
        encoders = serving.model.encoders
        self._serving = serving
        self._recent = recent
        self._states = StateResolver.of(
            serving.item_ids, serving.positions, encoders.event_types, encoders.target_codes
        )
        self._event_codes = {name: code for code, name in enumerate(encoders.event_types)}
        self._target_codes = frozenset(encoders.target_codes)
        self._context_codes = {
            role: next(
                (self._event_codes[name] for name in names if name in self._event_codes), encoders.target_codes[0]
            )
            for role, names in _CONTEXT_EVENT_TYPES.items()
        }

    def has_known_context(self, queries: Sequence[RecommendQuery | ScoreQuery]) -> list[bool]:
        """Whether each query names at least one context item that the generation holds."""
        if not queries:
            return []
        rows = _looked_up(self._serving, [query.shopper.context_item_ids for query in queries])
        return [bool((part >= 0).any()) for part in rows]

    def read(
        self,
        queries: Sequence[RecommendQuery | ScoreQuery],
        role: ContextItems,
        states: ShopperStates | None = None,
    ) -> Readied:
        """Looks up every id of the batch at once and builds the histories."""
        serving = self._serving
        shoppers = [query.shopper for query in queries]
        as_of_s = np.array([query.request_time_s for query in queries]).astype(np.int64)
        events = _looked_up(serving, [[event.item_id for event in shopper.recent_events] for shopper in shoppers])
        context = _known(_looked_up(serving, [shopper.context_item_ids for shopper in shoppers]))
        exclude_ids = [query.exclude_item_ids if isinstance(query, RecommendQuery) else () for query in queries]
        excluded = _known(_looked_up(serving, exclude_ids))
        if role is ContextItems.CART and states is not None and len(states.events):
            carts = self._states.carts(states, as_of_s, self._recent.cart_days)
            context = [named if len(named) else cart for named, cart in zip(context, carts, strict=True)]
        used = context if role is not ContextItems.IGNORE else [_NO_ROWS] * len(context)
        extra = ExtraBatch.of(
            [
                self._extra(shopper, rows, in_context, int(now_s), role)
                for shopper, rows, in_context, now_s in zip(shoppers, events, used, as_of_s, strict=True)
            ]
        )
        user_row = serving.user_ids.rows([shopper.user_id for shopper in shoppers])
        if states is not None:
            if states.purged_ms.any():
                user_row = np.where(self._states.hides_history(states), np.int32(-1), user_row)
            recent = self._states.events(states, as_of_s, self._recent.clock_skew_s, user_row >= 0)
            extra = extra if recent is None else recent.joined(extra)
        histories = serving.snapshot.histories.batch(
            user_row, as_of_s, serving.model.settings.features.history_events_max, extra
        )
        known, users = user_row >= 0, serving.snapshot.users
        return Readied(
            shoppers=Shoppers.of(
                histories,
                np.where(known, users.bucket[np.maximum(user_row, 0)], 0).astype(np.int32),
                np.where(known[:, None], users.attribute[np.maximum(user_row, 0)], 0).astype(np.int32),
                self._context(shoppers),
            ),
            seeds=_padded(used),
            excluded_request=np.repeat(
                np.arange(len(queries), dtype=np.int64), [len(a) + len(b) for a, b in zip(excluded, used, strict=True)]
            ),
            excluded_row=np.concatenate([rows for pair in zip(excluded, used, strict=True) for rows in pair]),
        )

    def _extra(
        self,
        shopper: Shopper,
        event_rows: NDArray[np.int32],
        context_rows: NDArray[np.int32],
        now_s: int,
        role: ContextItems,
    ) -> ExtraEvents | None:
        """Inline events of known items and types, then the context items as of now."""
        if not shopper.recent_events and len(context_rows) == 0:
            return None
        # A type that only the generation before this one knew is left out, too: the request was checked against that.
        typed = [event.event_type in self._event_codes for event in shopper.recent_events]
        known = (event_rows >= 0) & np.array(typed, np.bool_)
        events = [event for event, kept in zip(shopper.recent_events, known.tolist(), strict=True) if kept]
        if len(events) + len(context_rows) == 0:
            return None
        codes = [self._event_codes[event.event_type] for event in events]
        context_code = self._context_codes.get(role, 0)
        time_s = np.array([min(int(event.time_s), now_s) for event in events] + [now_s] * len(context_rows), np.int64)
        return ExtraEvents(
            item_row=np.concatenate([event_rows[known], context_rows]),
            event_type=np.array(codes + [context_code] * len(context_rows), np.uint8),
            time_s=time_s,
            is_target=np.array([code in self._target_codes for code in codes] + [False] * len(context_rows), np.bool_),
        )

    def _context(self, shoppers: Sequence[Shopper]) -> NDArray[np.int32]:
        """(B, C) codes of the declared context columns; 0 where a request does not say."""
        columns = [
            vocabulary.codes([shopper.context.get(name, "") for shopper in shoppers])
            for name, vocabulary in self._serving.contexts.items()
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(shoppers), 0), np.int32)


def _looked_up(serving: ServingModel, ids: Sequence[Sequence[str]]) -> list[NDArray[np.int32]]:
    """For each query the rows of its ids, in order, -1 unknown; one look-up for the whole batch."""
    wanted = [item_id for part in ids for item_id in part]
    if not wanted:  # most often nothing comes with a request
        return [_NO_ROWS] * len(ids)
    rows = serving.item_ids.rows(wanted)
    ends = list(accumulate(map(len, ids)))
    return [rows[end - len(part) : end] for part, end in zip(ids, ends, strict=True)]


def _known(rows: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    return [part[part >= 0] if len(part) else part for part in rows]


def _padded(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32] | None:
    width = max((len(part) for part in rows), default=0)
    if width == 0:
        return None
    out = np.full((len(rows), width), -1, np.int32)
    for place, part in enumerate(rows):
        out[place, : len(part)] = part
    return out
