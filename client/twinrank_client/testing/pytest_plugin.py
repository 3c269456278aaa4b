"""The fake server as a pytest fixture: import it into a conftest. The only module here that needs pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from twinrank_client.testing.fake_server import FakeServer


@pytest.fixture
def twinrank_server() -> Iterator[FakeServer]:
    """A fresh fake server for each test, stopped after it."""
    with FakeServer() as server:
        yield server
