"""Search in tables that have changed: whatever changed, the answer is that of scoring every retrievable row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.build import build_searcher
from index.config import IndexConfig, IndexKind
from index.exact import ExactSearcher
from index.item_ids import ItemIds
from server.catalogue.document import ItemDocument
from server.catalogue.item_embedder import ItemEmbedder
from server.catalogue.live_ids import LiveItemIds
from server.catalogue.live_items import LiveItems, LiveTables
from server.catalogue.live_searcher import LiveSearcher
from tests.conftest import SmallGeneration
from towers.features.item_statistics import STATISTIC_NAMES
from towers.model import TrainedModel

ITEM_COUNT, SPARE, DIMENSION = 60, 20, 16
BRANDS = ["Kestrel", "Alpenrose", "unheard of"]


def tables(rng: np.random.Generator, model: TrainedModel) -> LiveTables:
    """Random vectors; the first 50 of 60 items are indexed and retrievable."""
    rows = ITEM_COUNT + SPARE
    vectors = rng.normal(size=(rows, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hidden = model.settings.ranker.hidden[0]
    attributes = len(model.settings.features.affinity_attributes)
    return LiveTables(
        vectors=vectors,
        affinity=np.zeros((rows, attributes), np.int32),
        statistics=np.zeros((rows, len(STATISTIC_NAMES)), np.float32),
        retrievable=np.arange(rows) < 50,
        item_part=np.zeros((rows, hidden), np.float32),
    )


change = st.tuples(
    st.integers(0, ITEM_COUNT + 15),
    st.sampled_from(["delete", "sell out", "change", "bring back"]),
    st.sampled_from(BRANDS),
)


@settings(max_examples=60)
@given(changes=st.lists(change, max_size=40), k=st.integers(1, 90), seed=st.integers(0, 5), share=st.floats(0, 1))
def test_the_answer_is_that_of_scoring_every_retrievable_row(
    small_generation: SmallGeneration, changes: list[tuple[int, str, str]], k: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    model = small_generation.model
    table = tables(rng, model)
    ids = LiveItemIds(ItemIds.from_ids([f"i{number}" for number in range(ITEM_COUNT)]))
    live = LiveItems(table, ids, 50, ItemEmbedder(model))
    searcher = LiveSearcher(ExactSearcher(table.vectors[:50].copy()), live)
    for at, (number, what, brand) in enumerate(changes, start=1):
        document = {
            "delete": ItemDocument(deleted=True, at=f"{at}-0"),
            "sell out": ItemDocument({"brand": brand}, stock_count=0, at=f"{at}-0"),
            "change": ItemDocument({"brand": brand}, at=f"{at}-0"),
            "bring back": ItemDocument({"brand": brand}, stock_count=2, at=f"{at}-0"),
        }[what]
        live.offer([(f"i{number}", document)])
    queries = rng.normal(size=(3, DIMENSION)).astype(np.float32)
    live.settle()
    with live:
        retrievable = table.retrievable.copy()
        assert_exact(searcher.search(queries, k), queries, table.vectors, retrievable, k)
        allowed = retrievable & (rng.random(len(retrievable)) < share)
        rows = np.flatnonzero(allowed)
        for listed in (None, rows):
            found = searcher.search_allowed(queries, k, allowed, len(rows), listed)
            assert_exact(found, queries, table.vectors, allowed, k)


def assert_exact(
    found: tuple[np.ndarray, np.ndarray], queries: np.ndarray, vectors: np.ndarray, allowed: np.ndarray, k: int
) -> None:
    scores, rows = found
    count = min(k, int(allowed.sum()))
    assert (rows[:, :count] >= 0).all()
    assert (rows[:, count:] == -1).all()
    expected = np.sort(np.where(allowed, queries @ vectors.T, -np.inf), axis=1)[:, ::-1][:, :count]
    np.testing.assert_allclose(scores[:, :count], expected, atol=1e-5)
    for line, query, score in zip(rows[:, :count], queries, scores, strict=True):
        assert len(set(line.tolist())) == count
        assert allowed[line].all()
        np.testing.assert_allclose(vectors[line] @ query, score[:count], atol=1e-5)


@pytest.mark.parametrize("kind", [IndexKind.IVF_INT8, IndexKind.HNSW_FLAT, IndexKind.IVF_SQ8])
def test_an_approximate_index_finds_nothing_that_is_gone_and_everything_that_is_new(
    small_generation: SmallGeneration, kind: IndexKind
) -> None:
    rng = np.random.default_rng(1)
    model, count = small_generation.model, 5_000
    vectors = rng.normal(size=(count + 100, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    small = tables(rng, model)
    grown = {
        name: np.zeros((count + 100, *getattr(small, name).shape[1:]), getattr(small, name).dtype)
        for name in ("affinity", "statistics", "item_part")
    }
    table = LiveTables(vectors=vectors, retrievable=np.arange(count + 100) < count, **grown)
    base, _ = build_searcher(vectors[:count].copy(), IndexConfig(kind=kind), vectors[:200].copy())
    live = LiveItems(
        table, LiveItemIds(ItemIds.from_ids([f"i{row}" for row in range(count)])), count, ItemEmbedder(model)
    )
    searcher = LiveSearcher(base, live)
    queries = rng.normal(size=(8, DIMENSION)).astype(np.float32)
    best = searcher.search(queries, 20)[1]
    gone = np.unique(best).tolist()
    live.offer([(f"i{row}", ItemDocument(deleted=True, at="1-0")) for row in gone])
    live.offer([(f"new-{number}", ItemDocument({"brand": "Kestrel"}, at="2-0")) for number in range(30)])
    live.settle()
    with live:
        scores, rows = searcher.search(queries, 50)
        assert not np.isin(rows, gone).any()
        everything = searcher.search(table.vectors[count : count + 1], 40)[1]
        assert set(range(count, count + 30)) <= set(everything[0].tolist())
        exact = np.sort(np.where(table.retrievable, queries @ vectors.T, -np.inf), axis=1)[:, ::-1][:, :50]
    assert (rows >= 0).all()
    assert (scores >= exact[:, -1:] - 0.02).mean() > 0.9
