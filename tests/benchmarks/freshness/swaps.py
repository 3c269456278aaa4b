"""Swaps under load: no request fails, no answer mixes two generations, and nobody waits much longer.

`python -m tests.benchmarks.freshness.swaps [--count 100]`; the last line is JSON. Two generations of the demo's model,
built as of different days, take turns. What each answers to each user is asked before, alone; under load every answer
must be that of the generation that it names. The load is an open loop at 70 % of what the server can answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import recommendation_pb2 as pb

from index.commands.rebuild import publish
from index.generation import set_current
from index.generation.pointer import current_id
from tests.benchmarks.freshness.shop import AS_OF_S, copied_generations, percentile, serving, user_ids
from tests.benchmarks.load import SERVICE
from tests.benchmarks.wire import Connection, connect
from tests.benchmarks.workloads import SHOP_CONFIG
from towers.model import read_model
from towers.schema import load_dataset, read_shop_config

USERS = 400
CHANNELS = 32
IN_FLIGHT = 64
CAPACITY_S = 6.0
LOAD_SHARE = 0.7
BETWEEN_SWAPS_S = 3.0
FOLLOW_S_MAX = 10.0


@dataclass
class Answers:
    """What came back: when each request was due, how long it took, and what it said."""

    due_s: list[float] = field(default_factory=list)
    waited_ms: list[float] = field(default_factory=list)
    raw: list[tuple[int, bytes]] = field(default_factory=list)
    failed_due_s: list[float] = field(default_factory=list)


class Load:
    """Recommend for one user after the other over several connections."""

    def __init__(self, connections: list[Connection], payloads: list[bytes]) -> None:
        self._connections = connections
        self.payloads = payloads
        self.answers = Answers()
        self.under_way = 0

    def ask(self, number: int, due_s: float) -> None:
        """Sends one request; its wait counts from when it was due."""
        user = number % len(self.payloads)
        self.under_way += 1

        def done(raw: bytes | None) -> None:
            self.under_way -= 1
            if raw is None:
                self.answers.failed_due_s.append(due_s)
                return
            self.answers.due_s.append(due_s)
            self.answers.waited_ms.append((time.perf_counter() - due_s) * 1e3)
            self.answers.raw.append((user, raw))

        self._connections[number % len(self._connections)].call(self.payloads[user], done)

    async def capacity(self) -> float:
        """Requests a second in a closed loop."""
        began_s, number = time.perf_counter(), 0
        while time.perf_counter() < began_s + CAPACITY_S:
            while self.under_way < IN_FLIGHT:
                self.ask(number, time.perf_counter())
                number += 1
            await asyncio.sleep(0.0005)
        while self.under_way:
            await asyncio.sleep(0.001)
        done = len(self.answers.raw)
        self.answers = Answers()
        return done / (time.perf_counter() - began_s)

    async def open_loop(self, rate: float, stop: asyncio.Event) -> None:
        """Asks at a steady rate until told to stop."""
        began_s, number = time.perf_counter(), 0
        while not stop.is_set():
            due = int((time.perf_counter() - began_s) * rate)
            while number < due:
                self.ask(number, began_s + number / rate)
                number += 1
            await asyncio.sleep(0.0005)
        while self.under_way:
            await asyncio.sleep(0.001)


def second_generation(root: Path) -> str:
    """The demo's model rebuilt as of two weeks earlier; its id."""
    shop = read_shop_config(SHOP_CONFIG)
    model = read_model(shop.run_dir / "model")
    assert shop.training.train_end is not None
    earlier = shop.training.model_copy(update={"train_end": shop.training.train_end - timedelta(days=14)})
    shop = shop.model_copy(update={"training": earlier}).with_work_dir(root.parent)
    return publish(shop, load_dataset(read_shop_config(SHOP_CONFIG).dataset_dir), model, None, print).generation_id


List = tuple[tuple[str, ...], tuple[float, ...]]
"""Item ids and their scores."""
TIE = 1e-6
"""Scores that differ by less may change places with the size of the batch, whose sums are taken in another order."""


def agree(wanted: List, found: List) -> bool:
    """Whether two lists are the same, ties aside."""
    if wanted[0] == found[0]:
        return True
    score_of = dict(zip(*wanted, strict=True))
    if sorted(found[0]) != sorted(wanted[0]):
        return False
    scores = [score_of[item_id] for item_id in found[0]]
    return all(after <= before + TIE for before, after in pairwise(scores)) and all(
        abs(here - there) <= TIE for here, there in zip(scores, found[1], strict=True)
    )


async def lists_of(load: Load) -> dict[int, List]:
    """What the one generation that serves answers to each user."""
    for number in range(len(load.payloads)):
        load.ask(number, time.perf_counter())
        while load.under_way >= IN_FLIGHT:
            await asyncio.sleep(0.001)
    while load.under_way:
        await asyncio.sleep(0.001)
    answered = {user: pb.RecommendResponse.FromString(raw) for user, raw in load.answers.raw}
    load.answers = Answers()
    assert len(answered) == len(load.payloads)
    assert len({answer.generation_id for answer in answered.values()}) == 1
    return {user: (tuple(answer.item_ids), tuple(answer.scores)) for user, answer in answered.items()}


async def until_followed(load: Load, generation_id: str, rate: float | None) -> float:
    """Waits until every answer names the generation; the seconds that it took."""
    began_s = time.perf_counter()
    while True:
        before = len(load.answers.raw)
        if rate is None:
            for number in range(2 * CHANNELS):
                load.ask(number, time.perf_counter())
        await asyncio.sleep(0.1)
        newest = load.answers.raw[before:]
        if newest and all(generation_id.encode() in raw for _, raw in newest):
            return time.perf_counter() - began_s
        assert time.perf_counter() < began_s + FOLLOW_S_MAX, f"{generation_id} is not followed"


async def measure(target: str, root: Path, other_id: str, count: int) -> dict[str, object]:
    """The whole: what each generation answers, the capacity, then the swaps."""
    first_id = current_id(root)
    assert first_id is not None
    moment = Timestamp(seconds=int(AS_OF_S))
    payloads = [
        pb.RecommendRequest(user_id=user_id, request_time=moment, page_size=20).SerializeToString()
        for user_id in user_ids(root)[:USERS]
    ]
    connections = [await connect(target, f"{SERVICE}/Recommend", 10.0) for _ in range(CHANNELS)]
    load = Load(connections, payloads)
    expected = {first_id: await lists_of(load)}
    set_current(root, other_id)
    await until_followed(load, other_id, None)
    load.answers = Answers()
    expected[other_id] = await lists_of(load)
    different = sum(not agree(expected[first_id][user], expected[other_id][user]) for user in range(len(payloads)))
    assert different > len(payloads) / 2, "the generations answer alike: a mixture would not be seen"
    capacity = statistics.median([await load.capacity() for _ in range(3)])
    rate, stop = LOAD_SHARE * capacity, asyncio.Event()
    loading = asyncio.create_task(load.open_loop(rate, stop))
    await asyncio.sleep(5)
    windows, follow_s, turn = [], [], [first_id, other_id]
    for number in range(count):
        began_s = time.perf_counter()
        set_current(root, turn[number % 2])
        follow_s.append(await until_followed(load, turn[number % 2], rate))
        windows.append((began_s, time.perf_counter()))
        await asyncio.sleep(BETWEEN_SWAPS_S)
    stop.set()
    await loading
    for connection in connections:
        connection.close()
    return {"rate": rate, "different": different, **judged(load.answers, expected, windows, follow_s)}


def codes(metrics_port: str) -> dict[str, int]:
    """How the server says that its calls ended, those of the preparations included."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as page:
        text = page.read().decode()
    found: Counter[str] = Counter()
    for code, count in re.findall(r'^twinrank_requests_total\{[^}]*code="(\w+)"[^}]*\} (\S+)', text, re.MULTILINE):
        found[code] += int(float(count))
    return dict(found)


def judged(
    answers: Answers,
    expected: dict[str, dict[int, List]],
    windows: list[tuple[float, float]],
    follow_s: list[float],
) -> dict[str, object]:
    """Counts and latencies; steady is what was due outside of every window."""
    mixed = 0
    for user, raw in answers.raw:
        answer = pb.RecommendResponse.FromString(raw)
        mixed += not agree(expected[answer.generation_id][user], (tuple(answer.item_ids), tuple(answer.scores)))
    steady, swapping, at = [], [], 0
    for due_s, waited_ms in sorted(zip(answers.due_s, answers.waited_ms, strict=True)):
        while at < len(windows) and due_s > windows[at][1]:
            at += 1
        inside = at < len(windows) and due_s >= windows[at][0]
        (swapping if inside else steady).append(waited_ms)
    steady_ms, swap_ms = percentile(steady, 99), percentile(swapping, 99)
    return {
        "count": len(windows),
        "answers": len(answers.raw),
        "failed": len(answers.failed_due_s),
        "failed_while_swapping": sum(
            any(begin_s <= due_s <= end_s for begin_s, end_s in windows) for due_s in answers.failed_due_s
        ),
        "mixed": mixed,
        "p99_steady_ms": round(steady_ms, 2),
        "p99_swap_ms": round(swap_ms, 2),
        "p99_ratio": round(swap_ms / steady_ms, 2),
        "follow_s_max": round(max(follow_s), 2),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    count = parser.parse_args().count
    with copied_generations() as root:
        other_id = second_generation(root)
        with serving(root, "swaps") as process:
            found = asyncio.run(measure(process.command.target, root, other_id, count))
            found["codes"] = codes(process.command.environment["TWINRANK_METRICS__PORT"])
    print(json.dumps({"swaps": found}))


if __name__ == "__main__":
    main()
