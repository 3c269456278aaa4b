"""An engine for tests of everything around the engine: constant answers, a gate to hold it, a record of what it saw."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from index.filters import AttributeKind
from index.generation import Seal, open_generation
from server.config import ServerConfig
from server.domain import (
    Answer,
    BatchTimings,
    ItemExplanation,
    Query,
    RecommendAnswer,
    RecommendQuery,
    ScoreAnswer,
    ScoreQuery,
    SimilarItemsAnswer,
    Source,
    UnknownItem,
)
from server.examination import Ask, Loading, know_nothing
from server.generations import Loader
from server.lists import ListColumns

ITEM_COUNT = 150
ITEM_IDS = [f"item-{row}" for row in range(ITEM_COUNT)]
SCORES = [1.0 - row / 1000 for row in range(ITEM_COUNT)]
SOURCES = [list(Source)[row % len(list(Source))] for row in range(ITEM_COUNT)]
POISON = "poison"
"""A user id at which the engine raises, with words that must not reach a caller."""
WHICH_PROCESS = "which process"
"""A user id that is answered one item, `pid-<number>`: whose engine answered."""
SLOW, SLOW_S = "slow", 0.5
"""A user id whose batch takes the engine so long."""
SECRET = "secret-path-/var/lib/secret"
_LOGGER = structlog.stdlib.get_logger("twinrank.tests")


class FakeEngine:
    """Answers the first items to everybody. While `gate` is cleared, `answer` waits in it."""

    def __init__(self, generation_id: str = "generation-1") -> None:
        self.generation_id = generation_id
        self.event_types: tuple[str, ...] = ("view", "purchase")
        self.context_columns: tuple[str, ...] = ("device",)
        self.attributes: Mapping[str, AttributeKind] | None = {
            "category": AttributeKind.CATEGORICAL,
            "price": AttributeKind.NUMERIC,
            "title": AttributeKind.TEXT,
        }
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[Query]] = []
        self.broken_answer: Answer | None = None

    def answer(self, queries: Sequence[Query], states: object = None) -> tuple[list[Answer], BatchTimings]:
        self.batches.append(list(queries))
        self.entered.release()
        if not self.gate.wait(timeout=10):
            raise TimeoutError("the test left the gate closed")
        if any(isinstance(query, RecommendQuery) and query.shopper.user_id == SLOW for query in queries):
            time.sleep(SLOW_S)
        timings = BatchTimings(state_us=1, user_tower_us=2, retrieve_us=3, rank_us=4, batch_size=len(queries))
        return [self._answer_one(query) for query in queries], timings

    def _answer_one(self, query: Query) -> Answer:
        if self.broken_answer is not None:
            return self.broken_answer
        if isinstance(query, RecommendQuery):
            if query.shopper.user_id == POISON:
                raise RuntimeError(SECRET)
            if query.shopper.user_id == WHICH_PROCESS:
                whose = ListColumns.of([f"pid-{os.getpid()}"], [1.0], [int(Source.POPULAR)])
                return RecommendAnswer(whose, 0, self.generation_id, shortfall=True)
            kept = [row for row in range(ITEM_COUNT) if ITEM_IDS[row] not in query.exclude_item_ids][: query.page_size]
            return RecommendAnswer(
                ListColumns.of(
                    [ITEM_IDS[row] for row in kept],
                    [SCORES[row] for row in kept],
                    [int(SOURCES[row]) for row in kept],
                ),
                place=0,
                generation_id=self.generation_id,
                shortfall=len(kept) < query.page_size,
                explanations=[ItemExplanation(Source.BUY_AGAIN | Source.POPULAR, 0.5, 2.0, 3.0) for _ in kept]
                if query.explain
                else [],
            )
        if isinstance(query, ScoreQuery):
            known = [item_id in ITEM_IDS for item_id in query.item_ids]
            return ScoreAnswer([0.5 if is_known else 0.0 for is_known in known], known, self.generation_id)
        if query.item_id not in ITEM_IDS:
            return UnknownItem(query.item_id, self.generation_id)
        return SimilarItemsAnswer(ITEM_IDS[: query.page_size], SCORES[: query.page_size], self.generation_id)


def load_fake(root: Path, generation_id: str) -> FakeEngine:
    """A loader that takes any published generation; one whose metadata says `refuse` does not load."""
    generation = open_generation(root, generation_id)
    if "refuse" in generation.manifest.metadata:
        raise ValueError(f"generation {generation_id} does not fit: {generation.manifest.metadata['refuse']}")
    return FakeEngine(generation_id)


def fake_loader(config: ServerConfig, ask: Ask = know_nothing) -> Loader:
    """`load_fake` for processes; opens nothing that was refused, and logs what it was told before it loads."""

    def load(root: Path, generation_id: str) -> FakeEngine:
        finding = ask(generation_id)
        sealed = sorted(finding.seal.marks) if finding.seal is not None else []
        _LOGGER.info("asked", generation_id=generation_id, fits=finding.fits, sealed=sealed)
        if finding.refused:
            raise ValueError(finding.refused)
        return load_fake(root, generation_id)

    return load


def verify_fake(config: ServerConfig, generation_id: str) -> Seal:
    """Really compares the checksums."""
    return open_generation(config.generations.root, generation_id).seal


def examine_fake(config: ServerConfig, generation_id: str, seal: Seal) -> None:
    """Loads it; a generation whose metadata says `crash` is the end of the process that does so."""
    if "crash" in open_generation(config.generations.root, generation_id, seal=seal).manifest.metadata:
        os.kill(os.getpid(), signal.SIGSEGV)
    load_fake(config.generations.root, generation_id)


FAKE_LOADING = Loading(fake_loader, verify_fake, examine_fake)
