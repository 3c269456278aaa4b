"""From states to what a generation's models read: hashes to rows and codes, and only what is new to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.generation.positions import LivePositions
from server.state.packed import type_hash
from server.state.recent import ShopperStates
from towers.features.histories import ExtraBatch, ExtraEvents

ADD, REMOVE, PURCHASE = "add_to_cart", "remove_from_cart", "purchase"
_REMOVE_HASH, _ADD_HASH, _PURCHASE_HASH = type_hash(REMOVE), type_hash(ADD), type_hash(PURCHASE)
_DAY_S = 86_400


class HashedIds(Protocol):
    """Items found by the hash of their id."""

    def rows_of_hashes(self, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """(n,) the row of each item, -1 where it is unknown."""


@dataclass(frozen=True, slots=True)
class StateResolver:
    """Reads states against one generation.

    Attributes:
        item_ids: its items. positions: what it knows already.
        type_hashes: (T,) ascending. type_codes: (T,) their codes. target_codes: which of the codes are the goal.
        unknown_code: stands for a type that the model never saw; such an event is a signal and no goal.
    """

    item_ids: HashedIds
    positions: LivePositions
    type_hashes: NDArray[np.uint32]
    type_codes: NDArray[np.uint8]
    target_codes: frozenset[int]
    unknown_code: int

    @classmethod
    def of(
        cls, item_ids: HashedIds, positions: LivePositions, event_types: Sequence[str], target_codes: Sequence[int]
    ) -> StateResolver:
        """For a generation whose event types are numbered in this order."""
        by_hash: Mapping[int, int] = {type_hash(name): code for code, name in enumerate(event_types)}
        hashes = np.array(sorted(by_hash), np.uint32)
        codes = np.array([by_hash[value] for value in hashes.tolist()], np.uint8)
        return cls(item_ids, positions, hashes, codes, frozenset(target_codes), target_codes[0])

    def hides_history(self, states: ShopperStates) -> NDArray[np.bool_]:
        """(B,) whether the generation's own knowledge of the person must not be used: it is older than their purge."""
        return states.purged_ms > self.positions.purges_until_ms

    def events(self, states: ShopperStates, as_of_s: NDArray[np.int64], clock_skew_s: float) -> ExtraBatch | None:
        """What is new to the generation, as of the queries' own times (B,); None where nothing is.

        An event may lie up to `clock_skew_s` after its query, and counts as just then.
        """
        found = states.events
        if len(found) == 0:
            return None
        counts = np.diff(states.offsets)
        now_s = np.repeat(as_of_s, counts)
        time_s = found["time_s"].astype(np.int64)
        rows = self.item_ids.rows_of_hashes(found["item_hash"])
        new = (rows >= 0) & (found["position_ms"] > self.positions.log_until_ms)
        new &= (time_s >= self.positions.files_until_s) & (time_s <= now_s + int(clock_skew_s))
        places = np.minimum(np.searchsorted(self.type_hashes, found["type_hash"]), len(self.type_hashes) - 1)
        known = self.type_hashes[places] == found["type_hash"]
        new &= known | (found["type_hash"] != _REMOVE_HASH)  # to a model that never saw one it would be an interest
        codes = np.where(known, self.type_codes[places], self.unknown_code).astype(np.uint8)
        is_target = known & np.isin(codes, list(self.target_codes))
        kept = np.concatenate([[0], np.cumsum(new)])
        return ExtraBatch(
            kept[states.offsets],
            ExtraEvents(rows[new], codes[new], np.minimum(time_s, now_s)[new], is_target[new]),
        )

    def carts(self, states: ShopperStates, as_of_s: NDArray[np.int64], days: float) -> list[NDArray[np.int32]]:
        """For each query the rows of what lies in the shopper's cart, put there within so many days."""
        return [
            self._cart(states.events[begin:end], int(now_s) - int(days * _DAY_S))
            for begin, end, now_s in zip(states.offsets[:-1], states.offsets[1:], as_of_s, strict=True)
        ]

    def _cart(self, events: NDArray[np.void], since_s: int) -> NDArray[np.int32]:
        pieces: dict[int, float] = {}
        moves = events[np.isin(events["type_hash"], (_ADD_HASH, _REMOVE_HASH, _PURCHASE_HASH))]
        ordered = moves[np.argsort(moves["time_s"], kind="stable")]
        for move in ordered[ordered["time_s"] >= since_s].tolist():
            _, item, _, _, kind, quantity = move
            if kind == _ADD_HASH:
                pieces[item] = pieces.get(item, 0.0) + quantity
            elif kind == _PURCHASE_HASH or pieces.get(item, 0.0) <= quantity:
                pieces.pop(item, None)
            else:
                pieces[item] -= quantity
        rows = self.item_ids.rows_of_hashes(np.array(list(pieces), np.uint64))
        return rows[rows >= 0]
