"""`kill -TERM` of the real server while shoppers ask: nobody fails at the SDK, and what was in flight is answered."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from twinrank_client import AsyncClient, RecommendRequest

from server.workers.reserved_port import ReservedPort
from tests.conftest import SmallGeneration
from tests.end_to_end.processes import server, server_config
from tests.server.waiting import until


@pytest.fixture
def port() -> Iterator[int]:
    """A port that both servers share, kept from other tests' servers before, between and after them."""
    with closing(ReservedPort("127.0.0.1", 0, shared=True)) as reserved:
        yield reserved.port


async def test_a_successor_takes_over_without_one_failed_call(
    small_generation: SmallGeneration, tmp_path: Path, port: int
) -> None:
    config = server_config(tmp_path, small_generation.root, port, drain_s=0.2)
    answered_count = 0
    done = False

    async def ask_on_and_on(client: AsyncClient, number: int) -> None:
        nonlocal answered_count
        while not done:
            answer = await client.recommend(RecommendRequest(user_id=f"u{number:02d}", page_size=10))
            assert len(answer.item_ids) == 10
            answered_count += 1
            await asyncio.sleep(0.005)

    async with (
        server(config) as old,
        AsyncClient(old.target, timeout_s=10, channel_count=4) as client,
        asyncio.TaskGroup() as callers,  # the first that fails fails the test
    ):
        asking = [callers.create_task(ask_on_and_on(client, number)) for number in range(1, 13)]
        await until(lambda: answered_count > 100)
        async with server(config) as successor:
            assert successor.target == old.target
            old.process.send_signal(signal.SIGTERM)
            assert await old.ended() == 0
            before = answered_count
            await until(lambda: answered_count > before + 200)
            done = True
            await asyncio.wait(asking)  # while the successor still answers
    stopped = old.said("stopped")
    assert stopped is not None
    assert stopped["answered_count"] >= 100
    assert old.said("draining") is not None
    assert old.said("calls are cut off") is None
