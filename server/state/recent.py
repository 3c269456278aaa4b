"""The states of a batch's shoppers, as columns: what the engine is handed beside the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.domain import Query, SimilarItemsQuery, StateGap
from server.state.keys import user_key, visitor_key
from server.state.packed import RECORD_DTYPE, PackedStates


@dataclass(frozen=True, slots=True)
class ShopperStates:
    """What the store knows of the shoppers of B queries; E events in all, those of a query in the order of arrival.

    Attributes:
        offsets: (B + 1,) where each query's events begin.
        events: (E,) of RECORD_DTYPE.
        purged_ms: (B,) when the person was purged, 0 where never.
        gaps: (B,) uint8 of StateGap: whether something is missing that should be here.
    """

    offsets: NDArray[np.int64]
    events: NDArray[np.void]
    purged_ms: NDArray[np.float64]
    gaps: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.purged_ms)

    @classmethod
    def nothing(cls, query_count: int) -> ShopperStates:
        """There was nobody to ask for."""
        return cls.missing(np.zeros(query_count, np.bool_), np.zeros(query_count))

    @classmethod
    def missing(cls, named: NDArray[np.bool_], purged_ms: NDArray[np.float64]) -> ShopperStates:
        """No events for anybody; `named` (B,) are those whose state could not be had."""
        return cls(
            np.zeros(len(named) + 1, np.int64),
            np.zeros(0, RECORD_DTYPE),
            purged_ms,
            named * np.uint8(StateGap.UNAVAILABLE),
        )

    def take(self, places: Sequence[int]) -> ShopperStates:
        """The states of some of the queries, in the order given."""
        if len(places) == len(self) and list(places) == list(range(len(self))):
            return self
        chosen = np.asarray(places, np.int64)
        begins, ends = self.offsets[chosen], self.offsets[chosen + 1]
        offsets = np.zeros(len(chosen) + 1, np.int64)
        np.cumsum(ends - begins, out=offsets[1:])
        at = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], ends - begins)
        return ShopperStates(offsets, self.events[at], self.purged_ms[chosen], self.gaps[chosen])


@dataclass(frozen=True, slots=True)
class WantedStates:
    """Whose states B queries want.

    Attributes:
        keys: of all queries' states, none to two a query.
        first: (B + 1,) where the keys of each query begin.
        positions: place and position of each query that names one: its state should have come so far.
    """

    keys: list[bytes]
    first: NDArray[np.int64]
    positions: list[tuple[int, float]]

    @classmethod
    def of(cls, queries: Sequence[Query]) -> WantedStates:
        """In the order of the queries; the visitor's key before the user's."""
        keys: list[bytes] = []
        first, positions = [0], []
        for place, query in enumerate(queries):
            if not isinstance(query, SimilarItemsQuery):
                shopper = query.shopper
                if shopper.visitor_id:
                    keys.append(visitor_key(shopper.visitor_id).encode())
                if shopper.user_id:
                    keys.append(user_key(shopper.user_id).encode())
                if shopper.position_ms:
                    positions.append((place, shopper.position_ms))
            first.append(len(keys))
        return cls(keys, np.array(first, np.int64), positions)

    def named(self) -> NDArray[np.bool_]:
        """(B,) whether the query names a user or visitor."""
        return np.diff(self.first) > 0

    def found(self, packed: PackedStates) -> ShopperStates:
        """The states read for `keys`, by query; a query that names a later position has a gap."""
        first, count = self.first, len(self.first) - 1
        purged_ms, gaps = np.zeros(count), np.zeros(count, np.uint8)
        if packed.purged_ms.any():
            for place in range(count):
                purged_ms[place] = packed.purged_ms[first[place] : first[place + 1]].max(initial=0)
        for place, position_ms in self.positions:
            if position_ms > packed.last_ms[first[place] : first[place + 1]].max(initial=0):
                gaps[place] = StateGap.BEHIND_POSITION
        return ShopperStates(packed.offsets[first], packed.events, purged_ms, gaps)
