"""Shoppers who do things, and clients that bring their events to the server until each is acknowledged.

An event that failed is sent again with the same id, over a new stream or in another call, as the contract asks of
callers. What they send goes into the ledger before it is sent for the first time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from twinrank.v1 import events_pb2, events_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc

from server.state.keys import user_key, visitor_key
from server.state.packed import item_hash
from tests.benchmarks.freshness.ledger import Ledger, SentEvent

EVENTS_A_SHOPPER = 40
"""Fewer than the 64 signals that a state keeps."""
VISITOR_EVENTS = 16
"""After so many, one who signs in does so."""
SHOPPERS_AT_ONCE = 4
CALL_TIMEOUT_S = 10.0
RETRY_AFTER_S = 0.05
UNARY_EVENTS = 5
STREAM_EVENTS = 20
STREAM_WINDOW = 8
STREAM_MESSAGES = 60
"""Then the caller ends the stream and opens another."""
EXPECTED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
RECONNECT = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


@dataclass(slots=True)
class _Shopper:
    user_id: str
    visitor_id: str
    event_count: int = 0


class Shoppers:
    """Makes events: every third shopper is a user, every third a visitor, every third a visitor who signs in."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        """`name`: of these shoppers; no others in the run have it."""
        self._name = name
        self._ledger = ledger
        self._shopper_count = 0
        self._event_count = 0
        self._present = [self._come() for _ in range(SHOPPERS_AT_ONCE)]

    def next_events(self, count: int) -> list[events_pb2.Event]:
        """New events of those who are present, in turn; the ledger knows them from now on."""
        return [self._next(place % SHOPPERS_AT_ONCE) for place in range(count)]

    def request(self, events: Sequence[events_pb2.Event]) -> events_pb2.WriteEventsRequest:
        """To write them."""
        return events_pb2.WriteEventsRequest(events=events)

    def acknowledge(self, events: Sequence[events_pb2.Event]) -> None:
        """The server has said that it has them."""
        self._ledger.acknowledge((event.event_id for event in events), time.monotonic())

    def _next(self, place: int) -> events_pb2.Event:
        shopper = self._present[place]
        if shopper.event_count == EVENTS_A_SHOPPER:
            shopper = self._present[place] = self._come()
        shopper.event_count += 1
        self._event_count += 1
        user_id, visitor_id = shopper.user_id, shopper.visitor_id
        keys = [user_key(user_id)] if user_id else []
        keys += [visitor_key(visitor_id)] if visitor_id else []
        signed_in = not visitor_id or shopper.event_count > VISITOR_EVENTS
        event = events_pb2.Event(
            event_id=f"{self._name}-{self._event_count}",
            event_type="purchase" if self._event_count % 5 == 0 else "view",
            user_id=user_id if signed_in else "",
            visitor_id=visitor_id,
            item_id=f"{self._name}-item-{self._event_count}",
        )
        self._ledger.add(SentEvent(event.event_id, item_hash(event.item_id), tuple(keys)))
        return event

    def _come(self) -> _Shopper:
        self._shopper_count += 1
        number, kind = self._shopper_count, self._shopper_count % 3
        name = f"{self._name}-{number}"
        return _Shopper(f"user-{name}" if kind != 1 else "", f"visitor-{name}" if kind else "")


class EventLoad:
    """Clients of one server, and how their calls ended."""

    def __init__(self, target: str, ledger: Ledger, *, name: str, pause_s: float) -> None:
        """`pause_s`: of each client, between a call or message and the next."""
        self._target = target
        self._ledger = ledger
        self._name = name
        self._pause_s = pause_s
        self._over = False
        self.outcomes: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()
        """Failures with a code that a server that is killed would not have to give, in full."""

    def end(self) -> None:
        """Nothing new is begun; what was sent is sent again until it is acknowledged, or the task is cancelled."""
        self._over = True

    async def write(self, number: int) -> None:
        """One client of WriteEvents."""
        shoppers = Shoppers(f"{self._name}-unary-{number}", self._ledger)
        async with grpc.aio.insecure_channel(self._target, RECONNECT) as channel:
            stub = events_pb2_grpc.EventServiceStub(channel)
            while not self._over:
                events = shoppers.next_events(UNARY_EVENTS)
                while True:
                    try:
                        answer = await stub.WriteEvents(shoppers.request(events), timeout=CALL_TIMEOUT_S)
                    except grpc.aio.AioRpcError as error:
                        self._count("WriteEvents", error)
                        await asyncio.sleep(RETRY_AFTER_S)
                        continue
                    shoppers.acknowledge(events)
                    self.outcomes["WriteEvents OK"] += 1
                    self.outcomes["duplicates told"] += answer.duplicate_count
                    break
                await asyncio.sleep(self._pause_s)

    async def stream(self, number: int) -> None:
        """One client of StreamEvents: a window of messages, all of which are sent again when the stream breaks."""
        shoppers = Shoppers(f"{self._name}-stream-{number}", self._ledger)
        waiting: deque[list[events_pb2.Event]] = deque()
        async with grpc.aio.insecure_channel(self._target, RECONNECT) as channel:
            stub = events_pb2_grpc.EventServiceStub(channel)
            while waiting or not self._over:
                call = stub.StreamEvents()
                try:
                    async with asyncio.timeout(CALL_TIMEOUT_S + STREAM_MESSAGES * self._pause_s):
                        await self._one_stream(call, shoppers, waiting)
                    self.outcomes["StreamEvents OK"] += 1
                except grpc.aio.AioRpcError as error:
                    self._count("StreamEvents", error)
                except asyncio.InvalidStateError:  # it ended while a message was written; why is its status
                    self.outcomes[f"StreamEvents {(await call.code()).name}"] += 1
                except TimeoutError:
                    self.outcomes["StreamEvents silent"] += 1
                finally:
                    call.cancel()
                await asyncio.sleep(RETRY_AFTER_S)

    async def _one_stream(
        self, call: grpc.aio.StreamStreamCall, shoppers: Shoppers, waiting: deque[list[events_pb2.Event]]
    ) -> None:
        again = list(waiting)
        sent = 0
        refused: list[list[events_pb2.Event]] = []
        in_flight: deque[list[events_pb2.Event]] = deque()
        while True:
            more = sent < max(STREAM_MESSAGES, len(again)) and (sent < len(again) or not self._over)
            if more and len(in_flight) < STREAM_WINDOW:
                if sent < len(again):
                    events = again[sent]
                else:
                    events = shoppers.next_events(STREAM_EVENTS)
                    waiting.append(events)
                sent += 1
                in_flight.append(events)
                await call.write(events_pb2.StreamEventsRequest(sequence_number=sent, events=events))
                await asyncio.sleep(self._pause_s)
                if len(in_flight) < STREAM_WINDOW // 2:
                    continue
            if not in_flight:
                break
            answer = await call.read()
            if answer is grpc.aio.EOF:
                self.outcomes[f"StreamEvents ended {(await call.code()).name}"] += 1
                return
            events = in_flight.popleft()
            if answer.HasField("error"):
                self.outcomes[f"message {answer.error.reason}"] += 1
                refused.append(events)
                await asyncio.sleep(RETRY_AFTER_S)
            else:
                self.outcomes["message OK"] += 1
                self.outcomes["duplicates told"] += answer.duplicate_count
                shoppers.acknowledge(events)
                waiting.remove(events)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass

    async def ask(self, number: int, user_ids: Sequence[str]) -> None:
        """One client of Recommend."""
        chance = random.Random(number)
        async with grpc.aio.insecure_channel(self._target, RECONNECT) as channel:
            stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
            while not self._over:
                request = recommendation_pb2.RecommendRequest(user_id=chance.choice(user_ids), page_size=20)
                try:
                    answer = await stub.Recommend(request, timeout=CALL_TIMEOUT_S)
                except grpc.aio.AioRpcError as error:
                    self._count("Recommend", error)
                    await asyncio.sleep(RETRY_AFTER_S)
                else:
                    self.outcomes["Recommend degraded" if answer.degraded else "Recommend OK"] += 1
                await asyncio.sleep(self._pause_s)

    def _count(self, method: str, error: grpc.aio.AioRpcError) -> None:
        self.outcomes[f"{method} {error.code().name}"] += 1
        if error.code() not in EXPECTED:
            self.oddities[f"{method} {error.code().name}: {error.details()}"] += 1
