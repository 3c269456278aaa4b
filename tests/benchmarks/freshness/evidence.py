"""Reads what a store holds of a run's events: the whole log, and the states of its shoppers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from server.events.log import read_log
from server.state.packed import unpack
from server.store.address import StoreAddress
from server.store.connection import connect
from tests.benchmarks.freshness.ledger import Kept

PAGE_SIZE = 500
ASKING_S = 30.0


def read_kept(address: StoreAddress, state_keys: Collection[str]) -> Kept:
    """Nobody writes meanwhile."""
    client: Any = connect(address, timeout_s=ASKING_S)
    try:
        seconds, _ = client.time()
        logged = Counter(event.event_id for event in read_log(client, 0, (seconds + 60) * 1000))
        states: dict[str, dict[int, list[float]]] = {}
        keys = list(state_keys)
        for start in range(0, len(keys), PAGE_SIZE):
            page = keys[start : start + PAGE_SIZE]
            packed = unpack(client.mget(page))
            for place, key in enumerate(page):
                own = packed.events[packed.offsets[place] : packed.offsets[place + 1]]
                positions = states[key] = {}
                for item_hash, position_ms in zip(own["item_hash"].tolist(), own["position_ms"].tolist(), strict=True):
                    positions.setdefault(item_hash, []).append(position_ms)
    finally:
        client.connection_pool.disconnect()
    return Kept(logged, states)
