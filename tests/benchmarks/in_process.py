"""The engine and the plain pipeline with no network, in batches: a process of its own; its last line is JSON.

`python -m tests.benchmarks.in_process engine|stateless|plain|overlap --root … --users … --as-of … [--seconds …]
[--batch-size …]`

`engine` is what the fronts ask: it reads the recent states of each batch from a store, whose CPU counts. `stateless` is
the same without a store.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from index.generation import open_generation
from index.generation.pointer import current_id
from server.batching import Engine as AnyEngine
from server.config import ServerConfig
from server.domain import RecommendAnswer, RecommendQuery, RepeatPolicy, Shopper
from server.engine import Engine
from server.model import load_engine
from server.state.known_purges import KnownPurges
from server.state.reader import StateReader
from server.state.stateful_engine import StatefulEngine
from server.store.connection import connect
from tests.benchmarks.plain import PlainPipeline
from tests.server.store_process import StoreProcess

BATCH_SIZE = 32
PAGE_SIZE = 20
WARM_UP_S = 1.0
OVERLAP_USERS = 1_024


def open_engine(root: Path) -> Engine:
    """The engine over the current generation, as the server loads it."""
    generation_id = current_id(root)
    assert generation_id is not None, f"no generation at {root}"
    return load_engine(open_generation(root, generation_id), ServerConfig().placements)


@contextmanager
def with_states(engine: Engine) -> Iterator[tuple[StatefulEngine, psutil.Process]]:
    """The engine as the server has it, beside a store that knows nobody yet; and the store's process."""
    with StoreProcess() as process:
        connection = connect(process.address, timeout_s=ServerConfig().store.read_timeout_ms / 1000)
        store = psutil.Process(int(process.client.info("server")["process_id"]))
        yield StatefulEngine(engine, StateReader(connection, KnownPurges(connection))), store


def ask_engine(engine: AnyEngine, as_of_s: float) -> Callable[[Sequence[str]], list[list[str]]]:
    """Domain requests in, item ids out; every column of every list is made, as for whoever asks an engine alone."""

    def ask(user_ids: Sequence[str]) -> list[list[str]]:
        queries = [
            RecommendQuery("home", Shopper(user_id=user_id), as_of_s, PAGE_SIZE, RepeatPolicy.ALLOW)
            for user_id in user_ids
        ]
        answers, _ = engine.answer(queries)
        return [made.item_ids for answer in answers if isinstance(answer, RecommendAnswer) for made in [answer.made]]

    return ask


def ask_plain(pipeline: PlainPipeline, as_of_s: float) -> Callable[[Sequence[str]], list[list[str]]]:
    """The same of the plain pipeline."""
    return lambda user_ids: [
        found.item_ids for found in pipeline.answer(user_ids, [as_of_s] * len(user_ids), PAGE_SIZE)
    ]


def measure(
    ask: Callable[[Sequence[str]], list[list[str]]],
    user_ids: Sequence[str],
    seconds: float,
    store: psutil.Process | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, float]:
    """CPU and time of batches, one after the other; a latency is that of a whole batch. `store`: its CPU counts."""
    starts = range(0, len(user_ids) - batch_size + 1, batch_size)
    batches = itertools.cycle([user_ids[start : start + batch_size] for start in starts])
    until = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < until:
        ask(next(batches))
    gc.collect()
    gc.freeze()
    print("measuring", flush=True)
    latencies_ms = []
    began, cpu, store_cpu = time.perf_counter(), time.process_time(), _cpu_s(store)
    while time.perf_counter() < began + seconds:
        started = time.perf_counter()
        answered = ask(next(batches))
        latencies_ms.append((time.perf_counter() - started) * 1e3)
        assert len(answered) == batch_size
    count, elapsed_s, cpu_s = len(latencies_ms) * batch_size, time.perf_counter() - began, time.process_time() - cpu
    cpu_s += _cpu_s(store) - store_cpu
    return {
        "rps": count / elapsed_s,
        "cpu_us": cpu_s * 1e6 / count,
        "core_share": cpu_s / elapsed_s,
        "p50_ms": float(np.percentile(latencies_ms, 50)),
        "p99_ms": float(np.percentile(latencies_ms, 99)),
        "count": count,
    }


def _cpu_s(process: psutil.Process | None) -> float:
    return 0.0 if process is None else sum(process.cpu_times()[:2])


def overlap(root: Path, user_ids: Sequence[str], as_of_s: float) -> dict[str, float]:
    """Mean share of the plain pipeline's 20 items that the engine's list holds, too."""
    engine, plain = ask_engine(open_engine(root), as_of_s), ask_plain(PlainPipeline.open(root), as_of_s)
    shares = []
    for start in range(0, min(OVERLAP_USERS, len(user_ids)), BATCH_SIZE):
        part = user_ids[start : start + BATCH_SIZE]
        for ours, theirs in zip(engine(part), plain(part), strict=True):
            shares.append(len(set(ours) & set(theirs)) / len(theirs))
    return {"overlap_at_20": float(np.mean(shares))}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["engine", "stateless", "plain", "overlap"])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--as-of", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    arguments = parser.parse_args()
    asked = (arguments.seconds, None, arguments.batch_size)
    user_ids, as_of_s = arguments.users.read_text().split(), arguments.as_of
    if arguments.what == "overlap":
        print(json.dumps(overlap(arguments.root, user_ids, as_of_s)))
    elif arguments.what == "plain":
        ask = ask_plain(PlainPipeline.open(arguments.root), as_of_s)
        print(json.dumps(measure(ask, user_ids, *asked)))
    elif arguments.what == "stateless":
        print(json.dumps(measure(ask_engine(open_engine(arguments.root), as_of_s), user_ids, *asked)))
    else:
        with with_states(open_engine(arguments.root)) as (engine, store):
            print(
                json.dumps(
                    measure(ask_engine(engine, as_of_s), user_ids, arguments.seconds, store, arguments.batch_size)
                )
            )


if __name__ == "__main__":
    main()
