"""The loader of `python -m server`: verify a generation, then make the engine of it.

The engine is imported when a loader is made: the supervisor of several workers only names these functions, and so does
without torch.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

from index.generation import GenerationError, Seal, current_id, open_generation, read_key
from server.batching import Engine
from server.config import ServerConfig
from server.examination import Ask, Finding, Loading, know_nothing
from server.generations import Loader


def loader(config: ServerConfig, ask: Ask = know_nothing) -> Loader:
    """Loads the generations of the configuration's root; reads the key of signatures now, where there is one."""
    from server.fitness import GenerationUnfit
    from server.model import load_engine
    from server.shoppers import RecentSettings

    key = _key(config)
    recent = RecentSettings(config.events.clock_skew_s, config.state.cart_days)

    def load(root: Path, generation_id: str) -> Engine:
        finding = ask(generation_id)
        if finding.refused:
            raise GenerationUnfit(f"{generation_id}: {finding.refused}")
        # Its files are verified here in any case, by seal or by hash: what was examined under this id are these bytes.
        generation = open_generation(root, generation_id, key, finding.seal)
        return load_engine(generation, config.placements, recent, examined=finding.fits)

    return load


def verify(config: ServerConfig, generation_id: str) -> Seal:
    """Compares every checksum. Raises GenerationError, OSError."""
    return open_generation(config.generations.root, generation_id, _key(config)).seal


def examine(config: ServerConfig, generation_id: str, seal: Seal) -> None:
    """Loads the generation and forgets it. Raises whatever is wrong with it."""
    loader(config, lambda _: Finding(seal=seal))(config.generations.root, generation_id)


LOADING = Loading(loader, verify, examine)


def verified_ahead(config: ServerConfig) -> Ask:
    """Begins to verify the current generation on a thread of its own, while this one imports what serving needs."""
    root = config.generations.root
    ahead: Future[Seal | None] = Future()

    def begin() -> None:
        try:
            generation_id = current_id(root)
            ahead.set_result(None if generation_id is None else verify(config, generation_id))
        except (GenerationError, OSError):
            ahead.set_result(None)  # the loader will find the same, and say it

    threading.Thread(target=begin, name="verifying", daemon=True).start()

    def ask(generation_id: str) -> Finding:
        seal = ahead.result()
        return Finding(seal=seal) if seal is not None and seal.generation_id == generation_id else Finding()

    return ask


def _key(config: ServerConfig) -> bytes | None:
    key_file = config.generations.signature_key_file
    return read_key(key_file) if key_file is not None else None
