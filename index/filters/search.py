"""The k best allowed items of each query, by the plan that costs least for how much the filter lets through.

    EXACT        few rows are allowed: these alone are scored, in float32
    INSIDE       the index is searched, and finds allowed rows alone; it looks the further, the narrower the filter is
    OVER_FETCH   nearly all rows are allowed: the index is searched for a few more than k, and what is not allowed goes

A query that a plan leaves short of min(k, count) goes on to the next in the order OVER_FETCH, INSIDE, EXACT, and EXACT
finds all there is: k items are always found where there are k. The plan follows from the index, k and `count` alone, so
that a query's answer does not depend on its batch.

Measured on a million vectors of 64 dimensions, CPU µs a query for k = 100 (`python -m tests.benchmarks.filtered`):
scoring 20,000 scattered rows costs 1,700 for one query and 150 in a batch of 16, because fetching them is shared; to
look for one allowed item in fifty inside the lists costs 1,700 in either; so the plans meet at 20,000 rows.

FAISS: a bitmap's length is that of its bytes (opensearch k-NN #1435), HNSW finds too few where links lead through rows
that are not allowed (faiss #3186) and lets through what is not when its queue is not bounded (faiss #5504); so nothing
that FAISS finds is believed to be allowed before `allowed` says so.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.exact import ExactSearcher, select_best
from index.faiss_searcher import FaissSearcher
from index.int8_lists import Int8ListsSearcher
from index.searcher import CANDIDATE_COUNT_MAX, Rows, Scores, Searcher, check_queries, empty_answer

EXACT_COUNT_MAX = 20_000
"""Up to so many allowed rows are scored one by one."""
SCANNED_SHARE_OF_EXACT = 4
"""An index that scores everything anyway is worth it from one allowed row in so many."""
OVER_FETCH_SHARE_MIN = 0.9
"""Where so many of the rows are allowed, what is not is dropped from a slightly longer list."""
SCORED_PER_ITEM = 50
"""Allowed items scored inside the lists for each one wanted: recall@100 from .95 to .98 at 50, 20, 5 and 2 %, .91 at
half of it."""
_FAISS_EFFORT = 2.0
"""FAISS looks into so many times the lists, or candidates, that one in so many allowed asks for."""
_ROWS_PER_PASS = 4_096
_SCORES_SIZE_BYTES_MAX = 64 * 2**20

Bools = npt.NDArray[np.bool_]
RowList = npt.NDArray[np.integer]


class Plan(StrEnum):
    """How a filtered search is done."""

    OVER_FETCH = "over_fetch"
    INSIDE = "inside"
    EXACT = "exact"


_ORDER = (Plan.OVER_FETCH, Plan.INSIDE, Plan.EXACT)


def choose_plan(searcher: Searcher, k: int, count: int) -> Plan:
    """The plan that a search begins with where `count` of the searcher's rows are allowed."""
    item_count = searcher.item_count
    scans_all = isinstance(searcher, ExactSearcher) or _is_flat(searcher)
    few = min(EXACT_COUNT_MAX, item_count // SCANNED_SHARE_OF_EXACT) if scans_all else EXACT_COUNT_MAX
    if count <= max(few, k):
        return Plan.EXACT
    if scans_all:
        return Plan.INSIDE
    if count >= OVER_FETCH_SHARE_MIN * item_count:
        return Plan.OVER_FETCH
    return Plan.INSIDE if isinstance(searcher, Int8ListsSearcher | FaissSearcher) else Plan.EXACT


def search_allowed(
    searcher: Searcher,
    vectors: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    k: int,
    allowed: Bools,
    count: int,
    rows: RowList | None = None,
) -> tuple[Scores, Rows]:
    """The k best of the searcher's rows that are allowed.

    Args:
        searcher: over rows 0 … m - 1.
        vectors: (m or more, D) float32, what it was built from.
        queries: (B, D) float32.
        k: how many are wanted.
        allowed: (m or more,) bool; what lies behind m is not looked at.
        count: how many of the m rows are allowed. It chooses the plan, and says when k are too few to go on looking
            for; one that is too high costs time and no more, one that is too low may cost items.
        rows: the allowed rows, ascending, where the caller keeps them; they may go beyond m.

    Returns:
        Scores (B, k) descending and rows (B, k), -inf and -1 behind the last: the first min(k, count) are filled.

    Raises QueryInvalid, CandidateCountInvalid.
    """
    check_queries(queries, k, searcher.dimension)
    return _search(searcher, vectors, queries, k, allowed[: searcher.item_count], count, rows, None)


def search_by_plan(
    plan: Plan,
    searcher: Searcher,
    vectors: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    k: int,
    allowed: Bools,
    count: int,
    rows: RowList | None = None,
) -> tuple[Scores, Rows]:
    """`search_allowed`, beginning with this plan whatever it costs: for measurements and tests."""
    check_queries(queries, k, searcher.dimension)
    return _search(searcher, vectors, queries, k, allowed[: searcher.item_count], count, rows, plan)


def _search(
    searcher: Searcher,
    vectors: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    k: int,
    allowed: Bools,
    count: int,
    rows: RowList | None,
    first: Plan | None,
) -> tuple[Scores, Rows]:
    scores, found = empty_answer(len(queries), k)
    wanted = min(k, count, len(allowed))
    if wanted == 0 or len(queries) == 0:
        return scores, found
    begin = _ORDER.index(first if first is not None else choose_plan(searcher, k, count))
    open_queries = np.arange(len(queries))
    for plan in _ORDER[begin:]:
        asked = queries[open_queries] if len(open_queries) < len(queries) else queries
        if plan is Plan.EXACT:
            answer = _exact(vectors, asked, k, _rows_of(allowed, rows))
        elif plan is Plan.INSIDE:
            answer = _inside(searcher, asked, k, allowed, count)
        else:
            answer = _over_fetch(searcher, asked, k, allowed, count)
        scores[open_queries], found[open_queries] = answer
        open_queries = open_queries[(answer[1] >= 0).sum(axis=1) < wanted]
        if len(open_queries) == 0:
            break
    return scores, found


def _rows_of(allowed: Bools, rows: RowList | None) -> RowList:
    if rows is None:
        return np.flatnonzero(allowed)
    return rows[: np.searchsorted(rows, len(allowed))]


def _exact(
    vectors: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], k: int, rows: RowList
) -> tuple[Scores, Rows]:
    """Every allowed row scored; ties to the lower row."""
    scores, found = empty_answer(len(queries), k)
    if len(rows) == 0:
        return scores, found
    query_count_max = max(1, _SCORES_SIZE_BYTES_MAX // (4 * len(rows)))
    for start in range(0, len(queries), query_count_max):
        part = slice(start, start + query_count_max)
        every = np.empty((len(queries[part]), len(rows)), np.float32)
        for begin in range(0, len(rows), _ROWS_PER_PASS):
            some = slice(begin, begin + _ROWS_PER_PASS)
            every[:, some] = queries[part] @ vectors[rows[some]].T
        select_best(every, scores[part], found[part])
    filled = min(k, len(rows))
    found[:, :filled] = rows[found[:, :filled]]
    return scores, found


def _over_fetch(
    searcher: Searcher, queries: npt.NDArray[np.float32], k: int, allowed: Bools, count: int
) -> tuple[Scores, Rows]:
    """As many more as are not allowed among k, on average, and four standard deviations."""
    hidden = k * max(0.0, len(allowed) / min(count, len(allowed)) - 1)
    depth = min(k + math.ceil(hidden + 4 * math.sqrt(hidden)) + 8, len(allowed), CANDIDATE_COUNT_MAX)
    return _only_allowed(*searcher.search(queries, max(depth, 1)), k, allowed)


def _inside(
    searcher: Searcher, queries: npt.NDArray[np.float32], k: int, allowed: Bools, count: int
) -> tuple[Scores, Rows]:
    if isinstance(searcher, ExactSearcher):
        return searcher.search_allowed(queries, k, allowed)
    if isinstance(searcher, Int8ListsSearcher):
        return searcher.search_allowed(queries, k, allowed, SCORED_PER_ITEM * k)
    if isinstance(searcher, FaissSearcher):
        share = min(1.0, count / len(allowed))
        return _only_allowed(*_search_faiss(searcher, queries, min(k, len(allowed)), allowed, share), k, allowed)
    return empty_answer(len(queries), k)


def _search_faiss(
    searcher: FaissSearcher, queries: npt.NDArray[np.float32], k: int, allowed: Bools, share: float
) -> tuple[Scores, Rows]:
    index = searcher.index
    bitmap = np.packbits(allowed, bitorder="little")
    kinds: Any = faiss
    selector = kinds.IDSelectorBitmap(bitmap)
    effort = _FAISS_EFFORT / share
    if isinstance(index, faiss.IndexIVF):
        probes = min(index.nlist, math.ceil(index.nprobe * effort))
        parameters = kinds.SearchParametersIVF(sel=selector, nprobe=probes)
    elif isinstance(index, faiss.IndexHNSW):
        candidates = math.ceil(max(index.hnsw.efSearch, k) * effort)
        parameters = kinds.SearchParametersHNSW(sel=selector, efSearch=min(candidates, index.ntotal))
    else:
        parameters = kinds.SearchParameters(sel=selector)
    found_scores, found_rows = index.search(np.ascontiguousarray(queries), k, params=parameters)
    return np.where(found_rows >= 0, found_scores, np.float32(-np.inf)), found_rows


def _only_allowed(scores: Scores, rows: Rows, k: int, allowed: Bools) -> tuple[Scores, Rows]:
    """The first k allowed ones of each line."""
    kept = (rows >= 0) & allowed[np.maximum(rows, 0)]
    out_scores, out_rows = empty_answer(len(rows), k)
    place = np.cumsum(kept, axis=1) - 1
    query, column = np.nonzero(kept & (place < k))
    out_rows[query, place[query, column]] = rows[query, column]
    out_scores[query, place[query, column]] = scores[query, column]
    return out_scores, out_rows


def _is_flat(searcher: Searcher) -> bool:
    return isinstance(searcher, FaissSearcher) and isinstance(searcher.index, faiss.IndexFlat)
