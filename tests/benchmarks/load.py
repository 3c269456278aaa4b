"""The ways of asking our servers and their echoes: Recommend, BatchRecommend and StreamRecommend over `wire`.

`closed_loop` and `open_loop` drive them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import recommendation_pb2 as pb

from tests.benchmarks.loops import IN_FLIGHT, TIMEOUT_S, Counted, Latencies, Transport, closed_loop, open_loop
from tests.benchmarks.wire import Connection, connect

__all__ = [
    "CHANNELS",
    "IN_FLIGHT",
    "Counted",
    "GrpcBatch",
    "GrpcStream",
    "GrpcUnary",
    "Latencies",
    "Transport",
    "closed_loop",
    "messages",
    "open_loop",
]

CHANNELS = 4
SERVICE = "/twinrank.v1.RecommendationService"
BATCH_SIZE = 32
BATCHES_IN_FLIGHT = 2
PAGE_SIZE = 20


def messages(user_ids: list[str], as_of_s: float) -> list[pb.RecommendRequest]:
    """One request for each user: the home page, 20 items."""
    moment = Timestamp(seconds=int(as_of_s))
    return [
        pb.RecommendRequest(request_id=f"r{place}", user_id=user_id, request_time=moment, page_size=PAGE_SIZE)
        for place, user_id in enumerate(user_ids)
    ]


class GrpcUnary(Transport):
    """Recommend over CHANNELS connections; `payloads` are serialised requests, given in turn."""

    method = "Recommend"

    def __init__(self, payloads: list[bytes], in_flight: int = IN_FLIGHT) -> None:
        self._payloads = payloads
        self.in_flight = in_flight

    async def open(self, target: str) -> None:
        self._connections = await _connections(target, self.method, TIMEOUT_S)

    def start(self, number: int, done: Callable[[bool], None]) -> None:
        connection = self._connections[number % len(self._connections)]
        connection.call(self._payloads[number % len(self._payloads)], lambda answer: done(answer is not None))

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()


class GrpcBatch(GrpcUnary):
    """BatchRecommend of BATCH_SIZE requests."""

    requests_per_unit = BATCH_SIZE
    in_flight_max = Transport.in_flight_max // BATCH_SIZE
    method = "BatchRecommend"

    def __init__(self, requests: list[pb.RecommendRequest]) -> None:
        starts = range(0, len(requests) - BATCH_SIZE + 1, BATCH_SIZE)
        super().__init__(
            [pb.BatchRecommendRequest(requests=requests[at : at + BATCH_SIZE]).SerializeToString() for at in starts],
            BATCHES_IN_FLIGHT,
        )


class GrpcStream(Transport):
    """StreamRecommend, one stream a connection; answers are matched by request_id."""

    def __init__(self, requests: list[pb.RecommendRequest], in_flight: int = IN_FLIGHT) -> None:
        self._messages = [pb.StreamRecommendRequest(request=request) for request in requests]
        self._waiting: dict[str, Callable[[bool], None]] = {}
        self.in_flight = in_flight

    async def open(self, target: str) -> None:
        self._connections = await _connections(target, "StreamRecommend", None)  # a deadline would be the stream's own
        self._streams = [connection.stream(self._answered, self._ended) for connection in self._connections]

    def start(self, number: int, done: Callable[[bool], None]) -> None:
        message, place = self._messages[number % len(self._messages)], number % len(self._streams)
        message.request.request_id = f"n{number}"
        try:
            self._connections[place].send(self._streams[place], message.SerializeToString())
        except ConnectionResetError:
            asyncio.get_running_loop().call_soon(done, False)
        else:
            self._waiting[message.request.request_id] = done

    def _answered(self, raw: bytes) -> None:
        message = pb.StreamRecommendResponse.FromString(raw)
        is_list = message.HasField("response")
        request_id = message.response.request_id if is_list else message.error.request_id
        if done := self._waiting.pop(request_id, None):
            done(is_list)

    def _ended(self, _: bytes | None) -> None:
        """Whose stream it was is not known, so no request under way counts any more."""
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(False)

    async def close(self) -> None:
        for connection, stream in zip(self._connections, self._streams, strict=True):
            connection.half_close(stream)
        await asyncio.sleep(0.1)
        for connection in self._connections:
            connection.close()


async def _connections(target: str, method: str, deadline_s: float | None) -> list[Connection]:
    gc.collect()
    gc.freeze()  # the requests are made: a collection would go over all of them
    return [await connect(target, f"{SERVICE}/{method}", deadline_s) for _ in range(CHANNELS)]
