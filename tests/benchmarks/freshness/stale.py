"""Written, acknowledged, asked on another worker: is the event there, and how long after it was sent?

`python -m tests.benchmarks.freshness.stale [--count 10000]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field

import grpc
from twinrank.v1 import events_pb2, events_pb2_grpc, recommendation_pb2_grpc
from twinrank.v1 import recommendation_pb2 as pb

from tests.benchmarks.freshness.shop import WORKERS, copied_generations, percentile, serving

IN_FLIGHT = 4
CHANNELS_TRIED_MAX = 64


@dataclass
class Worker:
    """A connection to one worker: whoever answers a request without an id names itself in the id that it makes."""

    events: events_pb2_grpc.EventServiceStub
    lists: recommendation_pb2_grpc.RecommendationServiceStub


@dataclass
class Found:
    """What the rounds found; `visible_ms`: from sending an event to the arrival of an answer that shows it."""

    stale: int = 0
    degraded: int = 0
    visible_ms: list[float] = field(default_factory=list)


async def one_of_each(target: str) -> tuple[list[Worker], list[grpc.aio.Channel]]:
    """Connections until every worker has one."""
    found: dict[str, Worker] = {}
    channels = []
    while len(found) < WORKERS:
        assert len(channels) < CHANNELS_TRIED_MAX, f"{len(found)} of {WORKERS} workers answered"
        channel = grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
        channels.append(channel)
        worker = Worker(
            events_pb2_grpc.EventServiceStub(channel), recommendation_pb2_grpc.RecommendationServiceStub(channel)
        )
        answer = await worker.lists.Recommend(pb.RecommendRequest(visitor_id="anybody"), timeout=5)
        found.setdefault(answer.request_id.split("-")[0], worker)
    return list(found.values()), channels


async def measure(target: str, count: int) -> Found:
    """`count` shoppers, each new, buy what strangers are offered first, and ask another worker what else there is."""
    workers, channels = await one_of_each(target)
    stranger = await workers[0].lists.Recommend(pb.RecommendRequest(visitor_id="anybody"), timeout=5)
    item_id, found = stranger.item_ids[0], Found()
    rounds = iter(range(count))

    async def go_on() -> None:
        for number in rounds:
            writer, asked = workers[number % WORKERS], workers[(number + 1) % WORKERS]
            visitor = f"visitor-{number}"
            event = events_pb2.Event(event_type="purchase", item_id=item_id, visitor_id=visitor)
            began_s = time.perf_counter()
            await writer.events.WriteEvents(events_pb2.WriteEventsRequest(events=[event]), timeout=5)
            request = pb.RecommendRequest(visitor_id=visitor, repeat_policy=pb.REPEAT_POLICY_EXCLUDE_BOUGHT)
            while True:
                answer = await asked.lists.Recommend(request, timeout=5)
                found.degraded += answer.degraded
                if item_id not in answer.item_ids:
                    break
                found.stale += 1
            found.visible_ms.append((time.perf_counter() - began_s) * 1e3)

    await asyncio.gather(*(go_on() for _ in range(IN_FLIGHT)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    with copied_generations() as root, serving(root, "stale") as process:
        found = asyncio.run(measure(process.command.target, count))
    visible = {f"p{percent}": round(percentile(found.visible_ms, percent), 2) for percent in (50, 99)}
    print(
        json.dumps(
            {
                "stale_answers": found.stale,
                "stale_asked": count,
                "stale_degraded": found.degraded,
                "event_visible_ms": visible,
            }
        )
    )


if __name__ == "__main__":
    main()
