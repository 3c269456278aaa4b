"""From states to what a generation's models read: hashes to rows and codes, and only what is new to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.generation.positions import LivePositions
from server.state.packed import type_hash
from server.state.recent import ShopperStates
from towers.compiled import kernel
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
        type_hashes, type_codes, type_targets: (T,) of each event type its hash, its code, and whether it is the goal.
        unknown_code: stands for a type that the model never saw; such an event is a signal and no goal.
    """

    item_ids: HashedIds
    positions: LivePositions
    type_hashes: NDArray[np.uint32]
    type_codes: NDArray[np.uint8]
    type_targets: NDArray[np.bool_]
    unknown_code: int

    @classmethod
    def of(
        cls, item_ids: HashedIds, positions: LivePositions, event_types: Sequence[str], target_codes: Sequence[int]
    ) -> StateResolver:
        """For a generation whose event types are numbered in this order."""
        codes = np.arange(len(event_types), dtype=np.uint8)
        hashes = np.array([type_hash(name) for name in event_types], np.uint32)
        return cls(item_ids, positions, hashes, codes, np.isin(codes, list(target_codes)), target_codes[0])

    def hides_history(self, states: ShopperStates) -> NDArray[np.bool_]:
        """(B,) whether the generation's own knowledge of the person must not be used: it is older than their purge."""
        return states.purged_ms > self.positions.purges_until_ms

    def events(
        self,
        states: ShopperStates,
        as_of_s: NDArray[np.int64],
        clock_skew_s: float,
        in_generation: NDArray[np.bool_] | None = None,
    ) -> ExtraBatch | None:
        """What is new to the generation, as of the queries' own times (B,); None where nothing is.

        `in_generation` (B,): whose history the generation has; None means everybody's. To others, such as anonymous
        visitors, everything is new, and so is an event of a type that the model never saw: no generation holds either.
        An event may lie up to `clock_skew_s` after its query, and counts as just then.
        """
        found = states.events
        if len(found) == 0:
            return None
        offsets, places, codes, times, targets = _new_events(
            states.offsets,
            # Columns of their own: machine code is made for one layout, the rehearsal's and every batch's.
            found["position_ms"].copy(),
            found["time_s"].copy(),
            found["type_hash"].copy(),
            as_of_s,
            np.ones(len(as_of_s), np.bool_) if in_generation is None else in_generation,
            int(clock_skew_s),
            self.positions.log_until_ms,
            self.positions.files_until_s,
            self.type_hashes,
            self.type_codes,
            self.type_targets,
            self.unknown_code,
        )
        rows = self.item_ids.rows_of_hashes(found["item_hash"][places])
        known = rows >= 0
        if not known.all():
            ends = np.concatenate([[0], np.cumsum(known)])
            offsets, rows, codes, times, targets = (
                ends[offsets],
                rows[known],
                codes[known],
                times[known],
                targets[known],
            )
        return ExtraBatch(offsets, ExtraEvents(rows, codes, times, targets))

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


@kernel
def _new_events(
    offsets: NDArray[np.int64],
    position_ms: NDArray[np.float64],
    time_s: NDArray[np.uint32],
    kind: NDArray[np.uint32],
    as_of_s: NDArray[np.int64],
    in_generation: NDArray[np.bool_],
    clock_skew_s: int,
    log_until_ms: int,
    files_until_s: int,
    type_hashes: NDArray[np.uint32],
    type_codes: NDArray[np.uint8],
    type_targets: NDArray[np.bool_],
    unknown_code: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Which of E events are new and not of a time to come, and their columns of an ExtraBatch but the item's row.

    Most of a state is old to a generation of this morning, and looking up an item costs more than all else here.
    """
    new_offsets = np.zeros(len(offsets), np.int64)
    places, codes = np.empty(len(kind), np.int64), np.empty(len(kind), np.uint8)
    times, targets = np.empty(len(kind), np.int64), np.empty(len(kind), np.bool_)
    at = 0
    for query in range(len(as_of_s)):
        now_s = as_of_s[query]
        for event in range(offsets[query], offsets[query + 1]):
            happened_s = np.int64(time_s[event])
            if happened_s < files_until_s or happened_s > now_s + clock_skew_s:
                continue
            known = -1
            for place in range(len(type_hashes)):
                if type_hashes[place] == kind[event]:
                    known = place
            if position_ms[event] <= log_until_ms and known >= 0 and in_generation[query]:
                continue
            if known < 0 and kind[event] == _REMOVE_HASH:  # to a model that never saw one it would be an interest
                continue
            places[at] = event
            times[at] = min(happened_s, now_s)
            codes[at] = type_codes[known] if known >= 0 else unknown_code
            targets[at] = known >= 0 and type_targets[known]
            at += 1
        new_offsets[query + 1] = at
    return new_offsets, places[:at], codes[:at], times[:at], targets[:at]
