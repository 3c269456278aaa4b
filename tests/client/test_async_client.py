"""What only the asyncio client does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from twinrank_client import AsyncClient, RecommendRequest
from twinrank_client.testing import FakeServer


def test_it_may_be_made_outside_an_event_loop(twinrank_server: FakeServer) -> None:
    client = AsyncClient(twinrank_server.target)

    async def ask() -> int:
        async with client:
            return len(await client.recommend(RecommendRequest()))

    assert asyncio.run(ask()) == 0


async def test_calls_run_beside_each_other(twinrank_server: FakeServer) -> None:
    async with AsyncClient(twinrank_server.target, timeout_s=10, channel_count=2) as client:
        answers = await asyncio.gather(
            *(client.recommend(RecommendRequest(request_id=str(number))) for number in range(50))
        )
    assert [answer.request_id for answer in answers] == [str(number) for number in range(50)]


async def test_cancelling_the_task_cancels_the_call(twinrank_server: FakeServer) -> None:
    twinrank_server.delay(30)
    async with AsyncClient(twinrank_server.target, timeout_s=30) as client:
        task = asyncio.create_task(client.recommend(RecommendRequest()))
        while not twinrank_server.calls:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_stream_takes_an_asynchronous_iterable(twinrank_server: FakeServer) -> None:
    first_answered = asyncio.Event()

    async def requests() -> AsyncIterator[RecommendRequest]:
        yield RecommendRequest(request_id="first")
        await first_answered.wait()
        yield RecommendRequest(request_id="second")

    ids = []
    async with AsyncClient(twinrank_server.target) as client:
        async for answer in client.stream_recommend(requests()):
            ids.append(answer.request_id)
            first_answered.set()
    assert ids == ["first", "second"]


async def test_leaving_a_stream_early_cancels_it(twinrank_server: FakeServer) -> None:
    async def requests() -> AsyncIterator[RecommendRequest]:
        yield RecommendRequest(request_id="only")
        await asyncio.Event().wait()

    async with AsyncClient(twinrank_server.target) as client:
        async with aclosing(client.stream_recommend(requests())) as answers:
            assert (await anext(answers)).request_id == "only"
        assert (await client.recommend(RecommendRequest(request_id="after"))).request_id == "after"
