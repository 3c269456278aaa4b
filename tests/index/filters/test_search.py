"""Every kind of searcher, filtered by every plan, against a full sort of the allowed rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from index.build import build_searcher
from index.config import IndexConfig, IndexKind
from index.exact import ExactSearcher
from index.filters import search as module
from index.filters.search import Plan, choose_plan, search_allowed, search_by_plan
from index.searcher import CandidateCountInvalid, QueryInvalid, Searcher
from index.storage import index_file_name, open_searcher, save_searcher
from tests.contract.test_searchers import EXACT_KINDS, KINDS, SCORE_TOLERANCE, unit_vectors

ITEM_COUNT, CLUSTER_COUNT = 4_000, 40
# Few lists probed and few candidates weighed: what a filter needs beyond them, the search has to see to.
SETTINGS = {
    IndexKind.IVF_INT8: {"list_count": 64, "probe_count": 8},
    IndexKind.IVF_FLAT: {"list_count": 64, "probe_count": 8},
    IndexKind.IVF_SQ8: {"list_count": 64, "probe_count": 8},
    IndexKind.HNSW_FLAT: {"search_effort": 64, "link_count": 8, "construction_effort": 64},
    IndexKind.HNSW_SQ8: {"search_effort": 64, "link_count": 8, "construction_effort": 64},
}
SHARES = (0.95, 0.5, 0.05, 0.005, 0.0005)
Bools = npt.NDArray[np.bool_]
Made = tuple[Searcher, npt.NDArray[np.float32], npt.NDArray[np.int64]]
_MADE: dict[IndexKind, Made] = {}


def clustered_vectors() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Unit vectors around centres, and which centre each belongs to."""
    random = np.random.default_rng(1)
    cluster = random.integers(0, CLUSTER_COUNT, ITEM_COUNT)
    vectors = unit_vectors(CLUSTER_COUNT, seed=2)[cluster] + 0.6 * unit_vectors(ITEM_COUNT, seed=3)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), cluster


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> IndexKind:
    return IndexKind(request.param)


@pytest.fixture
def made(kind: IndexKind, tmp_path: Path) -> Made:
    """A searcher, mapped from its file, its vectors and their clusters; made once a kind."""
    if kind not in _MADE:
        vectors, cluster = clustered_vectors()
        config = IndexConfig.model_validate({"kind": kind, "device": "cpu", "recall_k": 10, **SETTINGS.get(kind, {})})
        searcher, _ = build_searcher(vectors, config)
        path = tmp_path / index_file_name(searcher)
        save_searcher(searcher, path)
        _MADE[kind] = open_searcher(path), vectors, cluster
    return _MADE[kind]


def mask_of(share: float, cluster: npt.NDArray[np.int64] | None) -> Bools:
    """So many rows: any, or those of whole clusters."""
    random = np.random.default_rng(4)
    count = round(share * ITEM_COUNT)
    order = (
        random.permutation(ITEM_COUNT) if cluster is None else np.argsort(random.permutation(CLUSTER_COUNT)[cluster])
    )
    allowed = np.zeros(ITEM_COUNT, np.bool_)
    allowed[order[:count]] = True
    return allowed


def check_answer(
    kind: IndexKind,
    vectors: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    k: int,
    allowed: Bools,
    answer: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> float:
    """Everything that must hold of any answer; returns its recall."""
    scores, rows = answer
    filled = min(k, int(allowed.sum()))
    assert scores.shape == rows.shape == (len(queries), k)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    assert (rows[:, filled:] == -1).all()
    assert np.isneginf(scores[:, filled:]).all()
    assert allowed[rows[:, :filled]].all()
    assert (rows[:, :filled] >= 0).all()
    assert all(len(set(line)) == filled for line in rows[:, :filled].tolist())
    assert (np.diff(scores[:, :filled], axis=1) <= 0).all()
    if filled == 0:
        return 1.0
    true = np.einsum("bkd,bd->bk", vectors[rows[:, :filled]], queries)
    np.testing.assert_allclose(scores[:, :filled], true, atol=SCORE_TOLERANCE.get(kind, 1e-5))
    every = queries.astype(np.float64) @ vectors[allowed].astype(np.float64).T
    kth = -np.sort(-every, axis=1)[:, filled - 1 : filled]
    return float((true >= kth - 1e-5).mean())


@pytest.mark.parametrize("correlated", [False, True], ids=["random", "clustered"])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("plan", [None, *Plan], ids=["chosen", *Plan])
def test_k_allowed_items_are_found_where_there_are_k(
    made: Made,
    kind: IndexKind,
    share: float,
    correlated: bool,
    plan: Plan | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searcher, vectors, cluster = made
    monkeypatch.setattr(module, "EXACT_COUNT_MAX", 100)  # as if the catalogue were two hundred times as large
    allowed = mask_of(share, cluster if correlated else None)
    queries, count = unit_vectors(7, seed=5), int(allowed.sum())
    if plan is None:
        answer = search_allowed(searcher, vectors, queries, 20, allowed, count)
    else:
        answer = search_by_plan(plan, searcher, vectors, queries, 20, allowed, count)
    recall = check_answer(kind, vectors, queries, 20, allowed, answer)
    if plan is Plan.EXACT or kind in EXACT_KINDS:
        assert recall == 1
    elif plan is None:
        assert recall >= 0.9


def test_plans_follow_the_share_that_is_allowed(
    made: Made,
    kind: IndexKind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EXACT_COUNT_MAX", 100)
    searcher = made[0]
    assert choose_plan(searcher, 20, 100) is Plan.EXACT
    assert choose_plan(searcher, 300, 300) is Plan.EXACT  # whoever wants all need not look for them
    looks_inside = kind is not IndexKind.INT8_EXACT
    assert choose_plan(searcher, 20, ITEM_COUNT // 2) is (Plan.INSIDE if looks_inside else Plan.EXACT)
    scans_all = kind in (IndexKind.EXACT, IndexKind.FLAT)
    assert choose_plan(searcher, 20, ITEM_COUNT) is (Plan.INSIDE if scans_all else Plan.OVER_FETCH)


def test_a_searcher_that_knows_no_filter_is_asked_for_more_and_then_left_alone() -> None:
    vectors, cluster = clustered_vectors()

    asked: list[int] = []

    class Plain:
        item_count, dimension = ITEM_COUNT, vectors.shape[1]

        def search(
            self, queries: npt.NDArray[np.float32], k: int
        ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
            asked.append(k)
            return ExactSearcher(vectors).search(queries, k)

    queries = unit_vectors(3, seed=6)
    for share, most in [(0.95, 60), (0.5, 0)]:
        asked.clear()
        allowed = mask_of(share, None)
        answer = search_by_plan(
            choose_plan(Plain(), 20, int(allowed.sum())), Plain(), vectors, queries, 20, allowed, int(allowed.sum())
        )
        assert check_answer(IndexKind.EXACT, vectors, queries, 20, allowed, answer) == 1
        assert all(20 < k <= most for k in asked)
    allowed = ~np.isin(cluster, [cluster[0]])
    queries = vectors[:1]  # everything near is hidden, so over-fetching falls short
    answer = search_by_plan(Plan.OVER_FETCH, Plain(), vectors, queries, 20, allowed, int(allowed.sum()))
    assert check_answer(IndexKind.EXACT, vectors, queries, 20, allowed, answer) == 1


@pytest.mark.parametrize("share", [0.95, 0.3, 0.01])
def test_a_batch_answers_like_single_queries(
    made: Made,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EXACT_COUNT_MAX", 100)
    searcher, vectors, _ = made
    allowed, queries = mask_of(share, None), unit_vectors(9, seed=7)
    count = int(allowed.sum())
    scores, rows = search_allowed(searcher, vectors, queries, 10, allowed, count)
    for at in range(len(queries)):
        alone, alone_rows = search_allowed(searcher, vectors, queries[at : at + 1], 10, allowed, count)
        np.testing.assert_allclose(scores[at], alone[0], atol=1e-5)
        assert (rows[at] == alone_rows[0]).mean() >= 0.9


def test_rows_behind_the_searcher_s_own_are_not_its_business(made: Made, kind: IndexKind) -> None:
    searcher, vectors, _ = made
    more = np.concatenate([vectors, unit_vectors(50, seed=8)])
    allowed = np.concatenate([mask_of(0.01, None), np.ones(50, np.bool_)])
    kept = np.flatnonzero(allowed)
    for rows in (None, kept):
        answer = search_allowed(searcher, more, vectors[:3], 60, allowed, int(allowed.sum()), rows)
        check_answer(kind, vectors, vectors[:3], 60, allowed[:ITEM_COUNT], answer)


def test_nothing_allowed_and_nobody_asking_is_an_empty_answer(
    made: Made,
) -> None:
    searcher, vectors, _ = made
    scores, rows = search_allowed(searcher, vectors, vectors[:2], 5, np.zeros(ITEM_COUNT, np.bool_), 0)
    assert (rows == -1).all()
    assert np.isneginf(scores).all()
    scores, rows = search_allowed(searcher, vectors, vectors[:0], 5, np.ones(ITEM_COUNT, np.bool_), ITEM_COUNT)
    assert scores.shape == rows.shape == (0, 5)


def test_a_count_that_is_too_high_loses_nothing(made: Made, kind: IndexKind) -> None:
    searcher, vectors, _ = made
    allowed, queries = mask_of(0.002, None), unit_vectors(4, seed=9)
    answer = search_allowed(searcher, vectors, queries, 20, allowed, ITEM_COUNT)
    assert check_answer(kind, vectors, queries, 20, allowed, answer) >= 0.99


def test_bad_queries_are_refused(
    made: Made,
) -> None:
    searcher, vectors, _ = made
    everything = np.ones(ITEM_COUNT, np.bool_)
    with pytest.raises(QueryInvalid, match="nan"):
        search_allowed(searcher, vectors, np.full((1, 16), np.nan, np.float32), 5, everything, ITEM_COUNT)
    with pytest.raises(CandidateCountInvalid):
        search_allowed(searcher, vectors, vectors[:1], 0, everything, ITEM_COUNT)
