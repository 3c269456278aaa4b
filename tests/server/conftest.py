"""One real server in this process, on loopback and free ports, with the fake engine in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from index.generation import GenerationWriter, open_generation, set_current
from server.config import ServerConfig
from server.engine import Engine
from server.lifecycle import Server
from server.model import open_serving_model
from server.serving_model import ServingModel
from server.store.address import StoreAddress
from tests.conftest import SmallGeneration
from tests.server.fake_engine import FakeEngine, load_fake
from tests.server.real_engine import PLACEMENTS
from tests.server.stubs import admin_stub, event_stub, recommendation_stub

TOKEN = "a-token-for-tests-only"


@dataclass
class Running:
    server: Server
    root: Path
    channel: aio.Channel
    admin_channel: aio.Channel

    @property
    def stub(self) -> Any:
        return recommendation_stub(self.channel)

    @property
    def events(self) -> Any:
        return event_stub(self.channel)

    @property
    def admin(self) -> Any:
        return admin_stub(self.admin_channel)

    @property
    def engine(self) -> FakeEngine:
        engine = self.server.batcher.engine
        assert isinstance(engine, FakeEngine)
        return engine


def publish(root: Path, **metadata: Any) -> str:
    """A generation that verifies; what the fake loader makes of it is in its metadata."""
    with GenerationWriter(root) as writer:
        writer.add_bytes("nothing", b"nothing")
        return writer.publish({"item_count": 150, **metadata})


def make_config(root: Path, **sections: dict[str, Any]) -> ServerConfig:
    quick: dict[str, dict[str, Any]] = {
        "listen": {"port": 0},
        "metrics": {"port": 0},
        "admin": {"port": 0, "token": TOKEN},
        "generations": {"root": root, "poll_interval_s": 0.01},
        "lifecycle": {"drain_s": 0.0, "stop_grace_s": 5.0},
    }
    table: dict[str, Any] = {name: {**quick.get(name, {}), **sections.get(name, {})} for name in quick | sections}
    return ServerConfig(**table)


@asynccontextmanager
async def serve(
    config: ServerConfig, load: Any = load_fake, store: StoreAddress | None = None
) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        server = Server(config, load, store=store)
        stack.push_async_callback(server.stop)
        await server.start()
        channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{server.port}"))
        admin_channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{server.admin_port}"))
        yield Running(server, config.generations.root, channel, admin_channel)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A generations root with one current generation."""
    path = tmp_path / "generations"
    set_current(path, publish(path))
    return path


@pytest.fixture
async def start(root: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts a server with sections of the configuration replaced."""
    async with AsyncExitStack() as stack:

        async def start_one(load: Any = load_fake, **sections: dict[str, Any]) -> Running:
            return await stack.enter_async_context(serve(make_config(root, **sections), load))

        yield start_one


@pytest.fixture
async def running(start: Callable[..., Any]) -> Running:
    """A server with defaults."""
    server: Running = await start()
    return server


@pytest.fixture(scope="session")
def serving(small_generation: SmallGeneration) -> ServingModel:
    """The small shop's generation in memory."""
    return open_serving_model(open_generation(small_generation.root, small_generation.generation_id))


@pytest.fixture(scope="session")
def engine(serving: ServingModel) -> Engine:
    """The real engine over it."""
    return Engine(serving, PLACEMENTS)
