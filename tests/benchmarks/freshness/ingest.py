"""How many events a second go in by StreamEvents, 100 a message, while the same server answers half of its maximum.

`python -m tests.benchmarks.freshness.ingest [--seconds 10]`; the last line is JSON. Server, store and load share the
machine's cores: first a closed loop of Recommend finds the maximum, then an open loop asks at half of it while another
sends events over two streams. An event counts when it is acknowledged, and the store is asked whether it has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinrank.v1 import events_pb2 as pb

from server.state.keys import SHARD_COUNT, log_key
from server.store.connection import connect as connect_store
from server.store.layout import StoreDirectory
from tests.benchmarks.freshness.shop import AS_OF_S, copied_generations, serving, user_ids
from tests.benchmarks.load import GrpcUnary, closed_loop, messages, open_loop
from tests.benchmarks.loops import OPEN_LOOP_WARM_UP_S, Counted, Latencies, Transport
from tests.benchmarks.wire import Connection, connect

METHOD = "/twinrank.v1.EventService/StreamEvents"
MESSAGE_EVENTS = 100
STREAMS = 2
MAXIMUM_S = 5.0
SHARE = 0.5
EVENTS_S = 21_500.0
"""A little above the bar, for an open loop whose draws vary."""


class EventMessages(Transport):
    """Messages of events over streams of their own connections; one unit is one message.

    `duplicates` are events that the server had already: not counted as taken in.
    """

    requests_per_unit = MESSAGE_EVENTS

    def __init__(self, payloads: list[bytes]) -> None:
        self._payloads = payloads
        self._streams: list[tuple[Connection, int]] = []
        self._sent_count = [0] * STREAMS
        self._waiting: list[dict[int, Callable[[bool], None]]] = [{} for _ in range(STREAMS)]
        self.duplicates = 0
        self.errors: set[str] = set()

    async def open(self, target: str) -> None:
        for place in range(STREAMS):
            connection = await connect(target, METHOD, None)
            number = connection.stream(self._taker(place), lambda _: self.errors.add("a stream ended"))
            self._streams.append((connection, number))

    def start(self, number: int, done: Callable[[bool], None]) -> None:
        place = number % STREAMS
        connection, stream = self._streams[place]
        self._sent_count[place] += 1
        sequence_number = self._sent_count[place]
        self._waiting[place][sequence_number] = done
        # On the wire a message is its fields one after the other: the number is put before events made beforehand.
        head = pb.StreamEventsRequest(sequence_number=sequence_number).SerializeToString()
        connection.send(stream, head + self._payloads[number % len(self._payloads)])

    def _taker(self, place: int) -> Callable[[bytes], None]:
        def take(raw: bytes) -> None:
            answer = pb.StreamEventsResponse.FromString(raw)
            self.duplicates += answer.duplicate_count
            if answer.HasField("error"):
                self.errors.add(answer.error.message)
            self._waiting[place].pop(answer.sequence_number)(not answer.HasField("error"))

        return take

    async def close(self) -> None:
        for connection, stream in self._streams:
            connection.half_close(stream)
        await asyncio.sleep(0.1)
        for connection, _ in self._streams:
            connection.close()


def event_messages(shoppers: list[str], item_ids: list[str], count: int) -> list[bytes]:
    """`count` messages of events of random shoppers, each of its own id; now and then a purchase between views."""
    draw = random.Random(1)
    made = []
    for number in range(count):
        message = pb.StreamEventsRequest()
        for place in range(MESSAGE_EVENTS):
            message.events.add(
                event_id=f"{number}-{place}",
                event_type=draw.choice(("view", "view", "view", "add_to_cart", "purchase")),
                user_id=draw.choice(shoppers),
                item_id=draw.choice(item_ids),
                session_id=str(number),
            )
        made.append(message.SerializeToString())
    return made


@dataclass(frozen=True)
class Found:
    """Both loads together: events and requests asked and answered well, latencies from the intended starts."""

    maximum_rps: float
    events_per_s: float
    written: int
    asked_rps: float
    answered: Counted
    served: Latencies
    acknowledged: Latencies


async def loads(target: str, shoppers: list[str], payloads: list[bytes], seconds: float, rate: float) -> Found:
    """Finds the maximum of Recommend alone, then asks at half of it while events come at `rate` a second."""
    requests = GrpcUnary([request.SerializeToString() for request in messages(shoppers, AS_OF_S)])
    await requests.open(target)
    counted = Counted()
    await closed_loop(requests, MAXIMUM_S / 5, counted)
    maximum = await closed_loop(requests, MAXIMUM_S, counted)
    assert not counted.failed, f"{counted.failed} requests failed"
    events, taken, answered = EventMessages(payloads), Counted(), Counted()
    await events.open(target)
    began_s = time.perf_counter()
    acknowledged, served = await asyncio.gather(
        open_loop(events, rate, seconds, taken, spin_s=0),
        open_loop(requests, SHARE * maximum, seconds, answered, spin_s=0),
    )
    took_s = time.perf_counter() - began_s
    assert not events.errors, events.errors  # closing ends the streams, which is none
    await events.close()
    await requests.close()
    written = taken.requests - events.duplicates
    return Found(maximum, written / took_s, written, SHARE * maximum, answered, served, acknowledged)


def measure(seconds: float, front: str, rate: float) -> dict[str, Any]:
    """Starts a shop and puts both loads on it."""
    with copied_generations() as root, serving(root, "ingest", front) as process:
        target = process.command.target
        shoppers = user_ids(root)
        payloads = event_messages(
            shoppers,
            [f"{1_000_000 + i}" for i in range(50_000)],
            int(1.2 * rate * (seconds + OPEN_LOOP_WARM_UP_S) / MESSAGE_EVENTS),
        )
        found = asyncio.run(loads(target, shoppers, payloads, seconds, rate))
        with connect_store(StoreDirectory(root.parent / "store").address, timeout_s=10.0) as store:
            logged = sum(int(store.xlen(log_key(shard)) or 0) for shard in range(SHARD_COUNT))  # type: ignore[arg-type]
    return {
        "ingest_events_per_s": found.events_per_s,
        "serving_rps": found.answered.requests / (seconds + OPEN_LOOP_WARM_UP_S),
        "serving_p99_ms": found.served.p99_ms,
        "ingest": {
            "serving_maximum_rps": found.maximum_rps,
            "serving_asked_rps": found.asked_rps,
            "serving_p50_ms": found.served.p50_ms,
            "serving_errors": found.answered.failed,
            "events_asked_per_s": rate,
            "acknowledgement_p50_ms": found.acknowledged.p50_ms,
            "acknowledgement_p99_ms": found.acknowledged.p99_ms,
            "acknowledged": found.written,
            "in_the_log": logged,
            "lost": found.written - logged,
        },
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of both loads together; at most 30")
    parser.add_argument("--front", default="grpcio", choices=("grpcio", "native"))
    parser.add_argument("--rate", type=float, default=EVENTS_S, help="events a second that are sent")
    arguments = parser.parse_args()
    print(json.dumps(measure(min(arguments.seconds, 30.0), arguments.front, arguments.rate)))


if __name__ == "__main__":
    main()
