"""What a shopper did a moment ago, over real processes: the next answer of any worker has seen it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from twinrank.v1 import events_pb2, events_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc

from tests.conftest import SmallGeneration
from tests.end_to_end.processes import ServerProcess, server, server_config

WORKERS = 2
CONNECTIONS = 8


@pytest.fixture
async def shop(tmp_path: Path, own_generations: SmallGeneration) -> AsyncIterator[ServerProcess]:
    config = server_config(tmp_path, own_generations.root)
    config.write_text(config.read_text() + f"[workers]\ncount = {WORKERS}\n")
    async with server(config) as running:
        yield running
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0


class Callers:
    """Connections enough that every worker has some: a new one lands on any of them."""

    def __init__(self, target: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(CONNECTIONS)]
        self._events = [events_pb2_grpc.EventServiceStub(channel) for channel in self._channels]
        self._lists = [recommendation_pb2_grpc.RecommendationServiceStub(channel) for channel in self._channels]

    async def did(self, *events: events_pb2.Event, caller: int = 0) -> str:
        answer = await self._events[caller].WriteEvents(events_pb2.WriteEventsRequest(events=events), timeout=10)
        return str(answer.position_token)

    async def lists(self, **fields: object) -> list[recommendation_pb2.RecommendResponse]:
        request = recommendation_pb2.RecommendRequest(page_size=5, **fields)
        return list(await asyncio.gather(*(one.Recommend(request, timeout=10) for one in self._lists)))

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))


@pytest.fixture
async def callers(shop: ServerProcess) -> AsyncIterator[Callers]:
    callers = Callers(shop.target)
    yield callers
    await callers.close()


def bought(item_id: str, **whose: str) -> events_pb2.Event:
    return events_pb2.Event(event_type="purchase", item_id=item_id, **whose)


async def test_every_worker_s_next_answer_has_seen_an_acknowledged_event(callers: Callers) -> None:
    before = await callers.lists(visitor_id="cookie")
    first = before[0].item_ids[0]
    assert all(answer.item_ids[0] == first for answer in before)
    token = await callers.did(bought(first, visitor_id="cookie"))
    hiding = recommendation_pb2.REPEAT_POLICY_EXCLUDE_BOUGHT
    after = await callers.lists(visitor_id="cookie", position_token=token, repeat_policy=hiding)
    assert len(after) == CONNECTIONS
    assert all(first not in answer.item_ids and not answer.degraded for answer in after)
    strangers = await callers.lists(visitor_id="another", repeat_policy=hiding)
    assert all(answer.item_ids[0] == first for answer in strangers)


async def test_who_signs_in_takes_along_what_the_visitor_did(callers: Callers) -> None:
    first = (await callers.lists(user_id="newcomer"))[0].item_ids[0]
    await callers.did(bought(first, visitor_id="cookie"))
    hiding = recommendation_pb2.REPEAT_POLICY_EXCLUDE_BOUGHT
    assert all(first in answer.item_ids for answer in await callers.lists(user_id="newcomer", repeat_policy=hiding))
    view = events_pb2.Event(event_type="view", item_id="anything", user_id="newcomer", visitor_id="cookie")
    await callers.did(view, caller=1)
    after = await callers.lists(user_id="newcomer", repeat_policy=hiding)
    assert all(first not in answer.item_ids for answer in after)


async def test_what_lies_in_the_cart_is_not_offered_in_the_cart(callers: Callers) -> None:
    first = (await callers.lists(user_id="ann", placement="cart"))[0].item_ids[0]
    add = events_pb2.Event(event_type="add_to_cart", item_id=first, user_id="ann")
    await callers.did(add)
    assert all(first not in answer.item_ids for answer in await callers.lists(user_id="ann", placement="cart"))
    remove = events_pb2.Event(event_type="remove_from_cart", item_id=first, user_id="ann")
    await callers.did(remove)
    assert all(first in answer.item_ids for answer in await callers.lists(user_id="ann", placement="cart"))


async def test_without_the_store_answers_are_degraded_and_with_it_they_are_whole_again(
    shop: ServerProcess, callers: Callers
) -> None:
    first = (await callers.lists(user_id="ann"))[0].item_ids[0]
    token = await callers.did(bought(first, user_id="ann"))
    up = shop.said("store up")
    assert up is not None
    pid = int(up["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        answers = await callers.lists(user_id="ann", position_token=token)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {answer.degraded_reason for answer in answers} == {recommendation_pb2.DEGRADED_REASON_STATE_UNAVAILABLE}
    assert all(len(answer.item_ids) == 5 for answer in answers)
    os.kill(pid, signal.SIGKILL)
    hiding = recommendation_pb2.REPEAT_POLICY_EXCLUDE_BOUGHT
    async with asyncio.timeout(20):
        while True:
            answers = await callers.lists(user_id="ann", position_token=token, repeat_policy=hiding)
            if not any(answer.degraded for answer in answers):
                break
    assert all(first not in answer.item_ids for answer in answers)
