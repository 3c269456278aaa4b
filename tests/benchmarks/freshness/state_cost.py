"""What recent states cost a request: the engine with and without them, CPU of engine and store together.

Each shopper's state holds 50 events, of which the generation knows 40, as the morning after a rebuild; and, as the
second figure, none, which makes every history twice as long. `state_fetch_cpu_us` is the fetch alone: keys, the store's
answer, columns; the rest is what the engine does with more events.

`python -m tests.benchmarks.freshness.state_cost --root DIR --users FILE`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import valkey

from index.generation import open_generation
from index.generation.pointer import current_id
from index.item_ids import ItemIds
from server.domain import Query, RecommendQuery, RepeatPolicy, Shopper
from server.fitness import ITEM_IDS_FILE
from server.state.keys import user_key
from server.state.known_purges import KnownPurges
from server.state.packed import HEADER, RECORD_DTYPE, VERSION, item_hash, type_hash
from server.state.reader import StateReader
from server.state.recent import ShopperStates
from server.state.stateful_engine import StatefulEngine
from server.store.connection import connect
from tests.benchmarks.in_process import open_engine
from tests.server.store_process import StoreProcess

BATCH_SIZE = 16
EVENTS_A_SHOPPER = 50
NEW_EVENTS = 10
REPEATS = 7
HOUSEKEEPING_S = 10.0


def fill(
    client: valkey.Valkey, user_ids: Sequence[str], item_ids: Sequence[str], as_of_s: float, new_count: int
) -> None:
    """Every user views and buys; `new_count` events in the day before, the others long ago."""
    random = np.random.default_rng(17)
    hashes = np.array([item_hash(item_id) for item_id in item_ids], np.uint64)
    pipeline = client.pipeline(transaction=False)
    for user_id in user_ids:
        events = np.zeros(EVENTS_A_SHOPPER, RECORD_DTYPE)
        events["position_ms"] = as_of_s * 1e3
        events["item_hash"] = random.choice(hashes, EVENTS_A_SHOPPER)
        events["time_s"] = as_of_s - np.sort(random.integers(1, 86_400, EVENTS_A_SHOPPER))[::-1]
        events["time_s"][: EVENTS_A_SHOPPER - new_count] = 1
        events["type_hash"] = np.where(random.random(EVENTS_A_SHOPPER) < 0.2, type_hash("purchase"), type_hash("view"))
        events["quantity"] = 1
        deeds = events[events["type_hash"] == type_hash("purchase")]
        signals = events[events["type_hash"] == type_hash("view")]
        counts = (0, len(deeds), len(signals))
        head = HEADER.pack(VERSION, *counts, as_of_s * 1e3, 0.0, *counts, 0)
        pipeline.set(user_key(user_id), head + deeds.tobytes() + signals.tobytes())
    pipeline.execute()


Answer = Callable[[Sequence[RecommendQuery]], object]


class TimedReader(StateReader):
    """Notes the CPU seconds of each read."""

    took_s: list[float]

    def read(self, queries: Sequence[Query]) -> ShopperStates:
        began_s = time.process_time()
        states = super().read(queries)
        self.took_s.append(time.process_time() - began_s)
        return states


@dataclass(frozen=True)
class Spent:
    """CPU µs a request: what the engine takes without states, what they add in all, and the fetch alone."""

    engine_us: float
    added_us: float
    fetch_us: float


def housekeeping_s(without: Answer, batches: Sequence, store: psutil.Process) -> float:
    """CPU seconds that the store takes in each second for itself, while the engine works and asks it nothing."""
    began_s, store_began_s = time.perf_counter(), sum(store.cpu_times()[:2])
    while time.perf_counter() - began_s < HOUSEKEEPING_S:
        for batch in batches:
            without(batch)
    return (sum(store.cpu_times()[:2]) - store_began_s) / (time.perf_counter() - began_s)


def spent(
    without: Answer,
    with_states: Answer,
    reader: TimedReader,
    batches: Sequence,
    store: psutil.Process,
    housekeeping: float,
) -> Spent:
    """What states add to what `without` takes, the store's share included.

    Each batch is answered both ways, one right after the other and in turns the first, so that whatever else the
    machine does meets both alike; the median of the batches' differences counts. The store's clock is coarse: its share
    is taken over all batches, less what it takes anyway (`housekeeping_s`).
    """
    all_began_s, store_began_s = time.perf_counter(), sum(store.cpu_times()[:2])
    reader.took_s = []
    took: list[tuple[float, float]] = []
    for number, batch in enumerate(batches):
        ways = (without, with_states) if number % 2 else (with_states, without)
        took_s = []
        for answer in ways:
            began_s = time.process_time()
            answer(batch)
            took_s.append(time.process_time() - began_s)
        took.append((took_s[0], took_s[1]) if number % 2 else (took_s[1], took_s[0]))
    store_s = sum(store.cpu_times()[:2]) - store_began_s - housekeeping * (time.perf_counter() - all_began_s)
    store_us = store_s / (len(batches) * BATCH_SIZE) * 1e6
    engine_us = statistics.median(first for first, _ in took) / BATCH_SIZE * 1e6
    differences = statistics.median(second - first for first, second in took) / BATCH_SIZE * 1e6
    fetch_us = statistics.median(reader.took_s) / BATCH_SIZE * 1e6
    return Spent(engine_us, differences + store_us, fetch_us + store_us)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=400)
    options = parser.parse_args()
    user_ids = options.users.read_text().split()[:4_000]
    generation_id = current_id(options.root)
    assert generation_id is not None
    generation = open_generation(options.root, generation_id)
    as_of_s = cast("float", generation.manifest.metadata["as_of_s"])
    ids = ItemIds.open(generation.path(ITEM_IDS_FILE))
    items = ids.ids(np.random.default_rng(3).integers(0, len(ids), 5_000))
    engine = open_engine(options.root)
    queries = [
        RecommendQuery("home", Shopper(user_id=user_id), as_of_s, 20, RepeatPolicy.ALLOW) for user_id in user_ids
    ]
    starts = itertools.cycle(range(0, len(queries) - BATCH_SIZE + 1, BATCH_SIZE))
    batches = [queries[start : start + BATCH_SIZE] for start in itertools.islice(starts, options.batches)]
    figures = {}
    with StoreProcess() as process:
        client = process.client
        store = psutil.Process(int(client.info("server")["process_id"]))
        connection = connect(process.address, timeout_s=1)
        reader = TimedReader(connection, KnownPurges(connection))
        reader.took_s = []
        ways = (engine.answer, StatefulEngine(engine, reader).answer, reader, batches, store)
        for name, new_count in (("state_cpu_us", NEW_EVENTS), ("state_cpu_us_all_new", EVENTS_A_SHOPPER)):
            fill(client, user_ids, items, as_of_s, new_count)
            spent(*ways, 0.0)
            idle = housekeeping_s(engine.answer, batches, store)
            measured = [spent(*ways, idle) for _ in range(REPEATS)]
            added = [one.added_us for one in measured]
            fetched = [one.fetch_us for one in measured]
            engine_us = statistics.median(one.engine_us for one in measured)
            print(f"{name}: engine {engine_us:.1f} µs, added {[round(one, 1) for one in added]}")
            figures[name] = round(statistics.median(added), 1)
            figures[f"{name}_spread"] = round(max(added) - min(added), 1)
            if new_count == NEW_EVENTS:
                figures["state_fetch_cpu_us"] = round(statistics.median(fetched), 1)
                figures["state_fetch_cpu_us_spread"] = round(max(fetched) - min(fetched), 1)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
