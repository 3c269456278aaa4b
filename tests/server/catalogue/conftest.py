"""A real store, the writer of the catalogue, and engines that follow it as workers do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from index.generation import current_id, open_generation
from server.catalogue.change import ItemChange
from server.catalogue.follower import CatalogueFollower
from server.catalogue.live_items import LiveItems
from server.catalogue.writer import CatalogueWriter
from server.domain import SimilarItemsAnswer, SimilarItemsQuery
from server.engine import Engine
from server.model import load_engine, open_serving_model
from server.serving_model import ServingModel
from server.store.connection import connect_async
from tests.conftest import SmallGeneration
from tests.server.real_engine import PLACEMENTS, listed, one, recommend
from tests.server.store_process import StoreProcess


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    with StoreProcess() as process:
        yield process


@pytest.fixture
async def writer(store: StoreProcess, own_generations: SmallGeneration) -> AsyncIterator[CatalogueWriter]:
    client = connect_async(store.address, timeout_s=5)
    yield CatalogueWriter(client, own_generations.root)
    await client.aclose()


@dataclass
class Worker:
    """What a worker has of the catalogue: an engine, its tables, and a follower; without a listener."""

    engine: Engine
    serving: ServingModel
    follower: CatalogueFollower

    @property
    def live(self) -> LiveItems:
        return self.serving.live

    def everything(self, user_id: str = "newcomer") -> list[str]:
        """Every item that it would recommend."""
        return list(listed(self.engine, recommend(user_id, "everything", page_size=100)).item_ids)

    def retrievable(self) -> set[str]:
        """Every item that its searcher finds."""
        anything = self.serving.item_ids.ids([0])[0]
        answer = one(self.engine, SimilarItemsQuery(anything, 2_000))
        assert isinstance(answer, SimilarItemsAnswer)
        assert len(set(answer.item_ids)) == len(answer.item_ids)
        return {anything, *answer.item_ids} if self.serving.snapshot.items.retrievable[0] else set(answer.item_ids)


def load(root: Path) -> tuple[Engine, ServingModel]:
    """The current generation, as a worker loads it."""
    generation_id = current_id(root)
    assert generation_id is not None
    generation = open_generation(root, generation_id)
    load_engine(generation, PLACEMENTS)  # with its golden queries
    serving = open_serving_model(generation)
    return Engine(serving, PLACEMENTS), serving


@pytest.fixture
def start_worker(store: StoreProcess, own_generations: SmallGeneration) -> Iterator[Callable[..., Worker]]:
    """Starts a worker on the current generation, caught up and following."""
    with ExitStack() as stack:

        def start(**heard: Any) -> Worker:
            engine, serving = load(own_generations.root)
            follower = CatalogueFollower(store.address, **heard)
            stack.callback(follower.stop)
            follower.catch_up(serving.live, patience_s=0.2)
            follower.start()
            return Worker(engine, serving, follower)

        yield start


def item(item_id: str, available: bool | None = None, stock_count: int | None = None, **attributes: Any) -> ItemChange:
    return ItemChange(item_id, attributes, available, stock_count)


def ids_of(small_generation: SmallGeneration) -> Sequence[str]:
    return list(small_generation.dataset.items["item_id"].to_list())
