"""A server with each front in turn, over the fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from index.generation import set_current
from server.config import Front
from tests.server.conftest import Running, make_config, publish, serve

Start = Callable[..., Any]


@pytest.fixture(params=[front.value for front in Front])
async def start(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a server with this front, over one current generation, with sections of the configuration replaced."""
    root = tmp_path / "generations"
    set_current(root, publish(root))
    async with AsyncExitStack() as stack:

        async def start_one(listen: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Running:
            config = make_config(root, listen={"front": request.param, **(listen or {})}, **sections)
            return await stack.enter_async_context(serve(config))

        yield start_one


@pytest.fixture
async def running(start: Start) -> Running:
    server: Running = await start()
    return server
