"""Packed states made by hand, as the store's script makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from server.domain import StateGap
from server.state.packed import HEADER, RECORD, RECORD_DTYPE, VERSION, item_hash, session_hash, type_hash
from server.state.recent import ShopperStates


@dataclass(frozen=True)
class Did:
    """One event of a state."""

    item_id: str
    event_type: str
    time_s: int
    position_ms: float
    quantity: float = 1.0
    session_id: str = ""

    @property
    def record(self) -> bytes:
        return RECORD.pack(
            self.position_ms,
            item_hash(self.item_id),
            self.time_s,
            session_hash(self.session_id),
            type_hash(self.event_type),
            self.quantity,
        )


def packed(
    deeds: Sequence[Did] = (),
    signals: Sequence[Did] = (),
    ids: Sequence[int] = (),
    last_ms: float = 0.0,
    purged_ms: float = 0.0,
) -> bytes:
    counts = (len(ids), len(deeds), len(signals))
    head = HEADER.pack(VERSION, *counts, last_ms, purged_ms, *counts, 0)
    hashes = np.array(ids, "<u8").tobytes()
    return head + hashes + b"".join(did.record for did in (*deeds, *signals))


def states(*shoppers: Sequence[Did], purged_ms: Sequence[float] = (), gaps: Sequence[StateGap] = ()) -> ShopperStates:
    events = np.frombuffer(b"".join(did.record for dids in shoppers for did in dids), RECORD_DTYPE)
    offsets = np.cumsum([0, *(len(dids) for dids in shoppers)]).astype(np.int64)
    nobody = [0.0] * len(shoppers)
    return ShopperStates(
        offsets,
        events,
        np.array(purged_ms or nobody, np.float64),
        np.array(gaps or nobody, np.uint8),
    )
