"""Small generations to open, damage and point at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from index.generation import GenerationWriter

Publish = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "generations"


@pytest.fixture
def publish(root: Path) -> Publish:
    """Publish a generation of three files, one of them empty; returns its id."""

    def publish_one(text: str = "first", key: bytes | None = None) -> str:
        with GenerationWriter(root, key) as writer:
            writer.add_bytes("weights.safetensors", f"weights of {text}".encode() * 100)
            writer.add_bytes("golden.json", b'{"answers": []}')
            writer.path("empty").touch()
            return writer.publish({"text": text, "recall@200": 0.97, "shapes": {"user": [64]}})

    return publish_one
