"""How many events a second go in by StreamEvents, 100 a message, while the same server answers half of its maximum.

`python -m tests.benchmarks.freshness.ingest [--seconds 10]`; the last line is JSON. Server, store and load share the
machine's cores: first a closed loop of Recommend finds the maximum, then an open loop asks at half of it while two
streams keep messages under way. An event counts when it is acknowledged, and the store is asked whether it has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinrank.v1 import events_pb2 as pb

from server.state.keys import SHARD_COUNT, log_key
from server.store.connection import connect as connect_store
from server.store.layout import StoreDirectory
from tests.benchmarks.freshness.shop import AS_OF_S, copied_generations, serving, user_ids
from tests.benchmarks.load import GrpcUnary, closed_loop, messages
from tests.benchmarks.loops import Counted, Transport
from tests.benchmarks.wire import Connection, connect

METHOD = "/twinrank.v1.EventService/StreamEvents"
MESSAGE_EVENTS = 100
STREAMS = 2
MESSAGES_IN_FLIGHT = 16
MAXIMUM_S = 5.0
LOAD_WARM_UP_S = 2.0
LOAD_PATIENCE_S = 30.0
SHARE = 0.5
EVENTS_S_GUESSED = 60_000
"""So many events a second are made beforehand; faster servers get some again, which do not count."""


class EventMessages(Transport):
    """Messages of events over streams of their own connections; one unit is one message.

    `duplicates` are events that the server had already: not counted as taken in.
    """

    requests_per_unit = MESSAGE_EVENTS
    in_flight = MESSAGES_IN_FLIGHT

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


@contextmanager
def serving_load(
    target: str, users: Path, rate: float, seconds: float, report: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """`client.load_test` at a rate, as a process of its own."""
    arguments = [
        target, "--users", users, "--rate", f"{rate:.1f}", "--duration", seconds, "--warm-up", LOAD_WARM_UP_S,
        "--channels", 8, "--timeout-ms", 5_000, "--json", report,
        "--request-time", time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(AS_OF_S)),
    ]  # fmt: skip
    load = subprocess.Popen([sys.executable, "-m", "client.load_test", *map(str, arguments)])
    try:
        yield load
        load.wait(LOAD_PATIENCE_S + seconds)
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()


async def maximum_rps(target: str, shoppers: list[str]) -> float:
    """Recommend answered a second when nothing else is asked."""
    transport = GrpcUnary([request.SerializeToString() for request in messages(shoppers, AS_OF_S)])
    await transport.open(target)
    counted = Counted()
    await closed_loop(transport, MAXIMUM_S / 5, counted)
    found = await closed_loop(transport, MAXIMUM_S, counted)
    await transport.close()
    assert not counted.failed, f"{counted.failed} requests failed"
    return found


async def ingested_per_s(target: str, payloads: list[bytes], seconds: float) -> tuple[float, int]:
    """Events acknowledged as written a second, and how many in all."""
    transport = EventMessages(payloads)
    await transport.open(target)
    counted, began_s = Counted(), time.perf_counter()
    await closed_loop(transport, seconds, counted)
    took_s = time.perf_counter() - began_s
    assert not transport.errors, transport.errors  # closing ends the streams, which is none
    await transport.close()
    written = counted.requests - transport.duplicates
    return written / took_s, written


def measure(seconds: float, front: str) -> dict[str, Any]:
    """Starts a shop, finds its maximum, and measures both loads together."""
    with (
        copied_generations() as root,
        serving(root, "ingest", front) as process,
        tempfile.TemporaryDirectory() as scratch,
    ):
        target = process.command.target
        shoppers = user_ids(root)
        users, report = Path(scratch, "users.txt"), Path(scratch, "report.json")
        users.write_text("\n".join(shoppers))
        maximum = asyncio.run(maximum_rps(target, shoppers))
        payloads = event_messages(
            shoppers, [f"{1_000_000 + i}" for i in range(50_000)], int(EVENTS_S_GUESSED * seconds / MESSAGE_EVENTS)
        )
        with serving_load(target, users, SHARE * maximum, seconds, report) as load:
            time.sleep(LOAD_WARM_UP_S)  # both windows begin when the load test's does, less its start
            events_per_s, written = asyncio.run(ingested_per_s(target, payloads, seconds))
        assert load.returncode in (0, 1), f"the load test ended with {load.returncode}"
        served = json.loads(report.read_text())
        with connect_store(StoreDirectory(root.parent / "store").address, timeout_s=10.0) as store:
            logged = sum(int(store.xlen(log_key(shard)) or 0) for shard in range(SHARD_COUNT))  # type: ignore[arg-type]
    return {
        "ingest_events_per_s": events_per_s,
        "serving_rps": served["achieved_rps"],
        "serving_p99_ms": served["p99_ms"],
        "ingest": {
            "serving_maximum_rps": maximum,
            "serving_asked_rps": served["asked_rps"],
            "serving_p50_ms": served["p50_ms"],
            "serving_errors": served["errors"],
            "acknowledged": written,
            "in_the_log": logged,
            "lost": written - logged,
        },
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of both loads together; at most 30")
    parser.add_argument("--front", default="grpcio", choices=("grpcio", "native"))
    arguments = parser.parse_args()
    print(json.dumps(measure(min(arguments.seconds, 30.0), arguments.front)))


if __name__ == "__main__":
    main()
