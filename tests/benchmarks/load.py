"""Load over gRPC from this process: a closed loop that keeps a server full, an open loop for latencies.

Both count what came back OK, so that a figure can be checked against the server's own counter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from twinrank.v1 import recommendation_pb2 as pb

from client.load.arrivals import poisson_arrivals
from client.load.connection import connect
from client.load.open_loop import OK, Tally, drive

SERVICE = "/twinrank.v1.RecommendationService"
IN_FLIGHT = 32
CHANNELS = 4
BATCH_SIZE = 32
BATCHES_IN_FLIGHT = 2
TIMEOUT_S = 5.0
PAGE_SIZE = 20


@dataclass
class Counted:
    """What a load sent and got: requests answered OK, and the calls that carried them."""

    requests: int = 0
    calls: int = 0
    failed: int = 0


Unit = Callable[[int], Awaitable[bool]]
"""Sends the n-th unit of work and says whether it was answered well."""


class Transport(Protocol):
    """One way of asking."""

    requests_per_unit: int
    """How many requests one unit of work carries."""
    in_flight: int
    """How many units a closed loop keeps under way."""

    async def open(self, target: str) -> None:
        """Connects."""

    async def send(self, number: int) -> bool:
        """Sends the unit of this number."""

    async def close(self) -> None:
        """Ends the connections."""


def messages(user_ids: list[str], as_of_s: float) -> list[pb.RecommendRequest]:
    """One request for each user: the home page, 20 items."""
    moment = Timestamp(seconds=int(as_of_s))
    return [
        pb.RecommendRequest(request_id=f"r{place}", user_id=user_id, request_time=moment, page_size=PAGE_SIZE)
        for place, user_id in enumerate(user_ids)
    ]


class GrpcUnary:
    """Recommend over several connections; `payloads` are serialised requests, given in turn."""

    requests_per_unit = 1
    in_flight = IN_FLIGHT
    method = "Recommend"

    def __init__(self, payloads: list[bytes]) -> None:
        self._payloads = payloads

    async def open(self, target: str) -> None:
        """Connects."""
        self._context = connect(target, CHANNELS)
        channels = await self._context.__aenter__()
        self._rpcs: list[Any] = [channel.unary_unary(f"{SERVICE}/{self.method}") for channel in channels]

    async def send(self, number: int) -> bool:
        """One call."""
        try:
            rpc = self._rpcs[number % len(self._rpcs)]
            answer: bytes = await rpc(self._payloads[number % len(self._payloads)], timeout=TIMEOUT_S)
        except aio.AioRpcError:
            return False
        return len(answer) > 0

    async def close(self) -> None:
        """Ends the connections."""
        await self._context.__aexit__(None, None, None)


class GrpcBatch(GrpcUnary):
    """BatchRecommend of BATCH_SIZE requests."""

    requests_per_unit = BATCH_SIZE
    in_flight = BATCHES_IN_FLIGHT
    method = "BatchRecommend"

    def __init__(self, requests: list[pb.RecommendRequest]) -> None:
        starts = range(0, len(requests) - BATCH_SIZE + 1, BATCH_SIZE)
        super().__init__(
            [pb.BatchRecommendRequest(requests=requests[at : at + BATCH_SIZE]).SerializeToString() for at in starts]
        )


class GrpcStream:
    """StreamRecommend, one stream a connection; answers are matched by request_id."""

    requests_per_unit = 1
    in_flight = IN_FLIGHT

    def __init__(self, requests: list[pb.RecommendRequest]) -> None:
        self._requests = requests
        self._waiting: dict[str, asyncio.Future[bool]] = {}

    async def open(self, target: str) -> None:
        """Opens the streams and a reader for each."""
        self._context = connect(target, CHANNELS)
        channels = await self._context.__aenter__()
        self._streams: list[Any] = [
            channel.stream_stream(
                f"{SERVICE}/StreamRecommend", response_deserializer=pb.StreamRecommendResponse.FromString
            )()
            for channel in channels
        ]
        self._writing = [asyncio.Lock() for _ in channels]  # grpcio takes one write of a stream at a time
        self._readers = [asyncio.create_task(self._read(stream)) for stream in self._streams]

    async def _read(self, stream: AsyncIterator[pb.StreamRecommendResponse]) -> None:
        async for message in stream:
            is_list = message.HasField("response")
            request_id = message.response.request_id if is_list else message.error.request_id
            self._waiting.pop(request_id).set_result(is_list)

    async def send(self, number: int) -> bool:
        """One message and its answer."""
        request = pb.RecommendRequest()
        request.CopyFrom(self._requests[number % len(self._requests)])
        request.request_id = f"n{number}"
        answered = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = answered
        message = pb.StreamRecommendRequest(request=request).SerializeToString()
        place = number % len(self._streams)
        async with self._writing[place]:
            await self._streams[place].write(message)
        return await asyncio.wait_for(answered, TIMEOUT_S)

    async def close(self) -> None:
        """Ends the streams."""
        for stream in self._streams:
            await stream.done_writing()
        await asyncio.gather(*self._readers)
        await self._context.__aexit__(None, None, None)


async def closed_loop(transport: Transport, seconds: float, counted: Counted) -> float:
    """Keeps `transport.in_flight` units under way for `seconds`; returns requests answered OK a second."""
    began = time.perf_counter()
    until, before = began + seconds, counted.requests
    number = 0

    async def one() -> None:
        nonlocal number
        while time.perf_counter() < until:
            number += 1
            _count(counted, transport, await transport.send(number))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(transport.in_flight):
            tasks.create_task(one())
    return (counted.requests - before) / (time.perf_counter() - began)


async def open_loop(transport: Transport, rate: float, seconds: float, counted: Counted) -> tuple[float, float]:
    """Poisson arrivals at `rate` requests a second; returns p50 and p99 in ms from the intended starts."""
    tally = Tally(warm_up_s=0.3, end_s=0.3 + seconds)

    async def send(number: int) -> str:
        answered = await transport.send(number)
        _count(counted, transport, answered)
        return OK if answered else "FAILED"

    times = poisson_arrivals(rate / transport.requests_per_unit, tally.end_s, seed=1)
    await drive(times, send, tally, in_flight_max=1_000)
    return tally.latency.percentile_ms(50), tally.latency.percentile_ms(99)


def _count(counted: Counted, transport: Transport, answered: bool) -> None:
    counted.calls += 1
    if answered:
        counted.requests += transport.requests_per_unit
    else:
        counted.failed += 1
