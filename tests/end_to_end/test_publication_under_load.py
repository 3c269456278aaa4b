"""A rebuild published while shoppers ask: nobody fails, and every answer is wholly of the generation that it names."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import torch
from twinrank_client import AsyncClient, Recommendations, RecommendRequest

from index.commands.rebuild import publish
from index.generation import set_current
from tests.conftest import SmallGeneration
from tests.server.conftest import Running
from tests.server.real_engine import NOW_S
from tests.server.waiting import until
from towers.model import TrainedModel, ranker_shape
from towers.models.ranker import Ranker

USERS = [f"u{number:02d}" for number in range(1, 17)]


def with_another_ranker(model: TrainedModel) -> TrainedModel:
    """A model that ranks otherwise."""
    torch.manual_seed(99)
    return replace(model, ranker=Ranker(ranker_shape(model.settings)).eval())


async def test_a_rebuild_published_under_load_fails_no_request_and_mixes_no_answer(
    small_service: Running, own_generations: SmallGeneration
) -> None:
    old_id = own_generations.generation_id
    seen: list[tuple[str, Recommendations]] = []
    done = False

    async def ask_on_and_on(client: AsyncClient, user_id: str) -> None:
        request = RecommendRequest(user_id=user_id, request_time=datetime.fromtimestamp(NOW_S, UTC), page_size=10)
        while not done:
            seen.append((user_id, await client.recommend(request)))
            await asyncio.sleep(0.01)

    async with (
        AsyncClient(f"127.0.0.1:{small_service.server.port}", timeout_s=10, channel_count=2) as client,
        asyncio.TaskGroup() as callers,  # the first that fails fails the test
    ):
        for user_id in USERS:
            callers.create_task(ask_on_and_on(client, user_id))
        await until(lambda: len(seen) > 50)
        published = await asyncio.to_thread(
            publish,
            own_generations.config,
            own_generations.dataset,
            with_another_ranker(own_generations.model),
            None,
            lambda _: None,
        )
        new_id = published.generation_id
        set_current(own_generations.root, new_id)
        await until(lambda: seen[-1][1].generation_id == new_id)
        asked_before = len(seen)
        await until(lambda: len(seen) > asked_before + 50)
        done = True

    ids = [answer.generation_id for _, answer in seen]
    assert set(ids) == {old_id, new_id}
    assert ids.count(new_id) > 50
    assert small_service.server.follower.status.refused_count == 0
    lists: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for user_id, answer in seen:
        lists.setdefault((user_id, answer.generation_id), set()).add(answer.item_ids)
    assert all(len(different) == 1 for different in lists.values())
    assert any(lists[user, old_id] != lists[user, new_id] for user in USERS)
