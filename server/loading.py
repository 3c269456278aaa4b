"""The loader of `python -m server`: verify a generation, then make the engine of it.

The engine is imported when a loader is made: the supervisor of several workers only names this function, and so does
without torch.
"""

from __future__ import annotations

from pathlib import Path

from index.generation import open_generation, read_key
from server.batching import Engine
from server.config import ServerConfig
from server.generations import Loader


def loader(config: ServerConfig) -> Loader:
    """Loads the generations of the configuration's root; reads the key of signatures now, where there is one."""
    from server.model import load_engine

    key_file = config.generations.signature_key_file
    key = read_key(key_file) if key_file is not None else None

    def load(root: Path, generation_id: str) -> Engine:
        return load_engine(open_generation(root, generation_id, key), config.placements)

    return load
