"""Is the service there? New connections ask again and again, and the answers say how long an outage was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from twinrank.v1 import events_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc

from tests.benchmarks.freshness.event_load import Shoppers

PROBE_INTERVAL_S = 0.1
PROBE_TIMEOUT_S = 2.0
PAGE_SIZE = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """A new connection that wrote an event and asked for a list; `failure` is empty when both went well, undegraded."""

    began_s: float
    ended_s: float
    failure: str


def recovery_s(kill_s: float, probes: Sequence[Probe], until_s: float = float("inf")) -> float | None:
    """Seconds from the kill to the end of the first success after the last failure; None while there is none.

    Of the probes that began in between: a server that is being killed may answer some calls more, so the first success
    is not enough.
    """
    asked = sorted((probe for probe in probes if kill_s <= probe.began_s < until_s), key=lambda probe: probe.began_s)
    last_failure_s = max((probe.began_s for probe in asked if probe.failure), default=kill_s - 1.0)
    after = [probe.ended_s for probe in asked if not probe.failure and probe.began_s > last_failure_s]
    return min(after) - kill_s if after else None


def successes_in_a_row(kill_s: float, probes: Sequence[Probe]) -> int:
    """How many of the newest probes after the kill succeeded."""
    count = 0
    for probe in sorted((probe for probe in probes if probe.began_s >= kill_s), key=lambda probe: -probe.began_s):
        if probe.failure:
            break
        count += 1
    return count


class Prober:
    """Begins a probe every PROBE_INTERVAL_S, whether or not those before have ended."""

    def __init__(self, target: str, shoppers: Shoppers) -> None:
        self._target = target
        self._shoppers = shoppers
        self._under_way: set[asyncio.Task[None]] = set()
        self.probes: list[Probe] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                task = asyncio.create_task(self._probe())
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                await asyncio.sleep(PROBE_INTERVAL_S)
        finally:
            await asyncio.gather(*self._under_way)

    async def _probe(self) -> None:
        began_s = time.monotonic()
        failure = ""
        events = self._shoppers.next_events(1)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._target, options) as channel:
            try:
                stub = events_pb2_grpc.EventServiceStub(channel)
                written = await stub.WriteEvents(self._shoppers.request(events), timeout=PROBE_TIMEOUT_S)
                self._shoppers.acknowledge(events)
                asked = recommendation_pb2.RecommendRequest(
                    user_id=events[0].user_id,
                    visitor_id=events[0].visitor_id,
                    position_token=written.position_token,
                    page_size=PAGE_SIZE,
                )
                lists = recommendation_pb2_grpc.RecommendationServiceStub(channel)
                answer = await lists.Recommend(asked, timeout=PROBE_TIMEOUT_S)
                if answer.degraded:
                    failure = f"degraded {answer.degraded_reason}"
            except grpc.aio.AioRpcError as error:
                failure = f"{error.code().name}: {error.details()}"
        self.probes.append(Probe(began_s, time.monotonic(), failure))
