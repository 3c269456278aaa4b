"""Every kind of index on one catalogue and one set of queries: recall against time and memory, as points of a frontier.

Times are of one thread, in µs a query, alone and in batches of 16. Private memory is what a worker process needs for
itself once the index lies in a file: nothing for kinds that FAISS maps, the whole index for the others.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.config import IndexConfig, IndexKind, choose_list_count
from index.exact import ExactSearcher
from index.faiss_searcher import FaissSearcher
from index.recall import recall_at_k
from index.searcher import Searcher

TRAINING_ROWS_MAX = 262_144
TIMED_S = 0.2
"""How long each point is timed, at each batch size."""
NSG_ITEMS_MAX = 50_000
"""NSG begins with the exact neighbours of every item, which takes minutes beyond this."""
BATCH_SIZE = 16
_REFINE_FACTORS = (2.0, 4.0, 8.0)

_OPEN_AND_WEIGH = """
import sys, faiss
def anonymous_kb():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
before = anonymous_kb()
index = faiss.read_index(sys.argv[1], faiss.IO_FLAG_MMAP_IFC)
print((anonymous_kb() - before) / 1024)
"""
"""In a process of its own: this one would find room in what it has freed."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Point:
    """One kind at one search effort.

    Attributes:
        kind: None for a kind that is measured here and that the server does not serve.
        effort: nprobe, efSearch or search_L.
        single_us, batch_us: a query alone, and one of a batch of BATCH_SIZE.
        private_mb: memory of each worker that no other shares.
    """

    name: str
    kind: IndexKind | None
    effort: int
    recall: float
    single_us: float
    batch_us: float
    private_mb: float
    build_s: float


@dataclass(frozen=True)
class _Kind:
    name: str
    kind: IndexKind | None
    factory: str
    efforts: Sequence[int]
    set_effort: Callable[[Any, int], None]


def sweep(vectors: Vectors, queries: Vectors, config: IndexConfig, say: Callable[[str], None]) -> Iterator[Point]:
    """Builds and measures every kind on the vectors (n, D) with the queries (q, D)."""
    exact = ExactSearcher(vectors)
    exact_scores, _ = exact.search(queries, config.recall_k)
    yield _point("exact", IndexKind.EXACT, 0, 1.0, exact, queries, config.recall_k, private_mb=0.0, build_s=0.0)
    built = ""
    for kind in _kinds(len(vectors), vectors.shape[1], config):
        if kind.factory != built:
            say(f"building {kind.name}")
            started = time.perf_counter()
            index = _build(kind, vectors, config)
            built, build_s = kind.factory, time.perf_counter() - started
            private_mb, searcher = _private_mb(index), FaissSearcher(index)
        for effort in kind.efforts:
            kind.set_effort(index, effort)
            recall = recall_at_k(searcher, vectors, queries, exact_scores)
            yield _point(kind.name, kind.kind, effort, recall, searcher, queries, config.recall_k, private_mb, build_s)


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


def _kinds(item_count: int, dimension: int, config: IndexConfig) -> Iterator[_Kind]:
    lists = choose_list_count(config, item_count)
    probes = [probe for probe in (4, 8, 16, 32, 64, 128) if probe <= lists]
    efforts = (64, 128, 200, 256, 512)
    links, half = config.link_count, dimension // 2
    yield _Kind("IVF,SQ8", IndexKind.IVF_SQ8, f"IVF{lists},SQ8", probes, _set_probes)
    yield _Kind("IVF,Flat", IndexKind.IVF_FLAT, f"IVF{lists},Flat", probes, _set_probes)
    for (
        factor
    ) in _REFINE_FACTORS:  # sums of 4-bit codes rank roughly: without a refine over exact vectors recall is poor
        fast_scan = f"IVF{lists},PQ{half}x4fs,Refine(SQ8)"
        yield _Kind(f"PQ fast-scan, refine {factor:g}", None, fast_scan, probes, _refining(factor))
    yield _Kind("HNSW,SQ8", IndexKind.HNSW_SQ8, f"HNSW{links},SQ8", efforts, _set_effort)
    yield _Kind("HNSW,Flat", IndexKind.HNSW_FLAT, f"HNSW{links},Flat", efforts, _set_effort)
    if item_count <= NSG_ITEMS_MAX:
        yield _Kind("NSG", None, f"NSG{links},Flat", efforts, _set_length)


def _set_probes(index: Any, effort: int) -> None:
    index.nprobe = effort


def _refining(factor: float) -> Callable[[Any, int], None]:
    def set_effort(index: Any, effort: int) -> None:
        index.k_factor = factor
        faiss.extract_index_ivf(index).nprobe = effort

    return set_effort


def _set_effort(index: Any, effort: int) -> None:
    index.hnsw.efSearch = effort


def _set_length(index: Any, effort: int) -> None:
    index.nsg.search_L = effort


def _build(kind: _Kind, vectors: Vectors, config: IndexConfig) -> Any:
    index: Any = faiss.index_factory(vectors.shape[1], kind.factory, faiss.METRIC_INNER_PRODUCT)
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = config.construction_effort
    if not index.is_trained:
        rows = np.random.default_rng(config.seed).permutation(len(vectors))[:TRAINING_ROWS_MAX]
        index.train(vectors[np.sort(rows)])
    index.add(vectors)
    return index


def _private_mb(index: Any) -> float:
    """MB that a fresh process allocates to open the index from a file: about 0 for a kind that FAISS maps."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "index"
        faiss.write_index(index, str(path))
        program = [sys.executable, "-c", _OPEN_AND_WEIGH, str(path)]
        weighed = subprocess.run(program, check=True, capture_output=True, text=True)  # noqa: S603 - nothing of it is foreign
    return max(0.0, float(weighed.stdout))


def _point(
    name: str,
    kind: IndexKind | None,
    effort: int,
    recall: float,
    searcher: Searcher,
    queries: Vectors,
    k: int,
    private_mb: float,
    build_s: float,
) -> Point:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        single_us, batch_us = (_time_us(searcher, queries, k, size) for size in (1, BATCH_SIZE))
    finally:
        faiss.omp_set_num_threads(threads)
    return Point(name, kind, effort, recall, single_us, batch_us, private_mb, build_s)


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
