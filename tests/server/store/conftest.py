"""A directory for a store; what still lives in it after a test is ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.store.stores import end_living


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "store"
    yield path
    end_living(path)
