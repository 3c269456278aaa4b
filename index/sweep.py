"""Every kind of index on one catalogue and one set of queries: recall against time and memory, as points of a frontier.

Times are of one thread, in µs a query, alone and in batches of 16.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from index.config import IndexConfig, IndexKind
from index.exact import ExactSearcher
from index.int8_exact import Int8ExactSearcher
from index.recall import recall_at_k
from index.searcher import Searcher
from index.sweep_kinds import Built, faiss_kinds, svs_kinds

TIMED_S = 0.2
"""How long each point is timed, at each batch size."""
BATCH_SIZE = 16
_RECALL_ENOUGH = 0.999
"""More effort of the same kind is not measured."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Point:
    """One kind at one search effort.

    Attributes:
        kind: None for a kind that is measured here and that the server does not serve.
        list_count: of an IVF kind.
        effort: nprobe, efSearch, search_L or the search window.
        single_us, batch_us: a query alone, and one of a batch of BATCH_SIZE.
        private_mb: memory of each worker that no other shares, once the index lies in a file.
    """

    name: str
    kind: IndexKind | None
    list_count: int | None
    effort: int
    recall: float
    single_us: float
    batch_us: float
    private_mb: float
    build_s: float


def sweep(
    vectors: Vectors,
    queries: Vectors,
    config: IndexConfig,
    say: Callable[[str], None],
    only: Sequence[str] = (),
) -> Iterator[Point]:
    """Builds and measures every kind on the vectors (n, D) with the queries (q, D).

    `only`: beginnings of names; a kind of another name is left out. Empty: all. Exact search always comes first.
    """
    exact = ExactSearcher(vectors)
    exact_scores, _ = exact.search(queries, config.recall_k)
    yield _point(Built("exact", exact, (0,), lambda _: None, kind=IndexKind.EXACT), 0, 1.0, queries, config.recall_k)

    def wanted(name: str) -> bool:
        return not only or name.lower().startswith(tuple(beginning.lower() for beginning in only))

    if wanted("int8, exact"):
        built = Built("int8, exact", Int8ExactSearcher.of(vectors), (0,), lambda _: None, kind=IndexKind.INT8_EXACT)
        yield _point(built, 0, 1.0, queries, config.recall_k)
    for kinds in (faiss_kinds, svs_kinds):
        for built in kinds(vectors, config, say, wanted):
            for effort in built.efforts:
                built.set_effort(effort)
                recall = recall_at_k(built.searcher, vectors, queries, exact_scores)
                yield _point(built, effort, recall, queries, config.recall_k)
                if recall >= _RECALL_ENOUGH:
                    break


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both recall and time in batches, by time."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.batch_us, -point.recall)):
        if not best or point.recall > best[-1].recall:
            best.append(point)
    return best


def choose(points: Sequence[Point], recall_min: float) -> Point | None:
    """The fastest in batches, of what the server serves, that reaches the recall; None when nothing does."""
    fit = [point for point in points if point.kind is not None and point.recall >= recall_min]
    return min(fit, key=lambda point: point.batch_us, default=None)


def _point(built: Built, effort: int, recall: float, queries: Vectors, k: int) -> Point:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        single_us, batch_us = (_time_us(built.searcher, queries, k, size) for size in (1, BATCH_SIZE))
    finally:
        faiss.omp_set_num_threads(threads)
    return Point(
        built.name, built.kind, built.list_count, effort, recall, single_us, batch_us, built.private_mb, built.build_s
    )


def _time_us(searcher: Searcher, queries: Vectors, k: int, batch_size: int) -> float:
    """µs of CPU of this thread a query."""
    batches = [queries[at : at + batch_size] for at in range(0, len(queries) - batch_size + 1, batch_size)]
    searcher.search(batches[0], k)
    count, began = 0, time.thread_time()
    until = time.perf_counter() + TIMED_S
    while time.perf_counter() < until:
        searcher.search(batches[count % len(batches)], k)
        count += 1
    return (time.thread_time() - began) / (count * batch_size) * 1e6
