"""From item vectors to a searcher: choose the kind, train, add, tune the search effort, measure recall.

Approximate kinds are trained and filled on a GPU when FAISS has one (one switch, `device`), and come back to the CPU
before anything else happens to them: serving and the file are always the CPU's.

Errors:
    ValueError
    └── IndexBuildError   what was asked cannot be built here
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.config import IndexConfig, IndexDevice, IndexKind, choose_list_count, resolve_kind
from index.exact import ExactSearcher
from index.faiss_searcher import FaissSearcher
from index.int8_exact import Int8ExactSearcher
from index.int8_lists import Int8ListsSearcher
from index.recall import recall_at_k
from index.searcher import Searcher, check_vectors
from index.storage import BuiltSearcher

_FACTORY = {
    IndexKind.FLAT: "Flat",
    IndexKind.IVF_INT8: "IVF{list_count},SQ8",  # its lists are taken, its codes are not
    IndexKind.IVF_FLAT: "IVF{list_count},Flat",
    IndexKind.IVF_SQ8: "IVF{list_count},SQ8",
    IndexKind.HNSW_FLAT: "HNSW{link_count},Flat",
    IndexKind.HNSW_SQ8: "HNSW{link_count},SQ8",
}
_RANGE_SAMPLE_COUNT = 100_000
"""SQ8 learns the range of each dimension from these; 512 vectors made scores wrong by 0.03."""
_PROBE_COUNT_FIRST = 8
_SEARCH_EFFORT_FIRST = 32
_SEARCH_EFFORT_MAX = 4096
"""Beyond this a graph is slower than exact search would be."""


class IndexBuildError(ValueError):
    """What was asked cannot be built here."""


@dataclass(frozen=True)
class BuildReport:
    """What was built and how well it finds; goes into the generation's manifest."""

    kind: str
    """Never "auto"."""
    device: str
    """"cpu" or "gpu": where it was trained and filled."""
    item_count: int
    dimension: int
    list_count: int | None
    probe_count: int | None
    search_effort: int | None
    recall_k: int
    recall: float
    """Recall@recall_k against exact search, on the tuning queries."""
    train_s: float
    add_s: float


def build_searcher(
    vectors: npt.NDArray[np.float32],
    config: IndexConfig,
    tuning_queries: npt.NDArray[np.float32] | None = None,
) -> tuple[BuiltSearcher, BuildReport]:
    """Index `vectors` (n, D) float32; row i of the array is item row i.

    `tuning_queries` (B, D) float32 should be user embeddings: recall on them is what counts. None: a sample of the
    items' own vectors. Raises VectorsInvalid, IndexBuildError.
    """
    check_vectors(vectors)
    kind = resolve_kind(config, len(vectors))
    if kind is IndexKind.INT8_EXACT:
        in_int8 = Int8ExactSearcher.of(vectors)
        return in_int8, _report(kind, IndexDevice.CPU, in_int8, config, recall=1.0)
    exact = ExactSearcher(vectors)
    if kind is IndexKind.EXACT:
        return exact, _report(kind, IndexDevice.CPU, exact, config, recall=1.0)

    index, list_count = _empty_index(kind, config, *vectors.shape)
    device = _resolve_device(kind, config.device)
    started_s = time.perf_counter()
    worker = faiss.index_cpu_to_all_gpus(index, ngpu=1) if device is IndexDevice.GPU else index
    if not index.is_trained:
        worker.train(training_sample(vectors, config, list_count))
    trained_s = time.perf_counter()
    worker.add(np.ascontiguousarray(vectors))
    if device is IndexDevice.GPU:
        index = faiss.index_gpu_to_cpu(worker)
    added_s = time.perf_counter()

    searcher = Int8ListsSearcher.from_faiss(index, vectors) if kind is IndexKind.IVF_INT8 else FaissSearcher(index)
    recall = _tune(searcher, kind, config, list_count, vectors, exact, tuning_queries)
    return searcher, _report(
        kind, device, searcher, config, recall, list_count, trained_s - started_s, added_s - trained_s
    )


def _empty_index(kind: IndexKind, config: IndexConfig, item_count: int, dimension: int) -> tuple[Any, int | None]:
    list_count = choose_list_count(config, kind, item_count) if kind.is_ivf else None
    if list_count is not None and list_count > item_count:
        raise IndexBuildError(f"{kind} with {list_count} lists needs as many items, not {item_count}; lower it")
    if item_count == 0 and kind is IndexKind.HNSW_SQ8:
        raise IndexBuildError(f"{kind} cannot be trained on 0 items; use kind = 'exact'")
    factory = _FACTORY[kind].format(list_count=list_count, link_count=config.link_count)
    index: Any = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    if kind.is_ivf:
        index.cp.seed = config.seed
    if kind.is_hnsw:
        index.hnsw.efConstruction = config.construction_effort
    return index, list_count


def _resolve_device(kind: IndexKind, device: IndexDevice) -> IndexDevice:
    """HNSW is built by the CPU only, and Flat has nothing to train."""
    gains_from_gpu = kind.is_ivf
    gpu_count = faiss.get_num_gpus()
    if device is IndexDevice.GPU and gpu_count == 0:
        raise IndexBuildError("device = 'gpu', but this FAISS sees no GPU; install one that does or say 'cpu'")
    if device is IndexDevice.GPU and not gains_from_gpu:
        raise IndexBuildError(f"device = 'gpu', but {kind} is built on the CPU only; say 'auto' or choose an ivf kind")
    use_gpu = device is not IndexDevice.CPU and gpu_count > 0 and gains_from_gpu
    return IndexDevice.GPU if use_gpu else IndexDevice.CPU


def training_sample(
    vectors: npt.NDArray[np.float32], config: IndexConfig, list_count: int | None
) -> npt.NDArray[np.float32]:
    """As many as k-means gains from, and enough to find the range of each dimension: values outside are cut off."""
    wanted = max(config.training_vectors_per_list * (list_count or 0), _RANGE_SAMPLE_COUNT)
    if wanted >= len(vectors):
        return np.ascontiguousarray(vectors)
    rows = np.random.default_rng(config.seed).choice(len(vectors), wanted, replace=False)
    return vectors[np.sort(rows)]


def _tune(
    searcher: FaissSearcher | Int8ListsSearcher,
    kind: IndexKind,
    config: IndexConfig,
    list_count: int | None,
    vectors: npt.NDArray[np.float32],
    exact: ExactSearcher,
    tuning_queries: npt.NDArray[np.float32] | None,
) -> float:
    """Set the smallest effort that reaches recall_min (or the configured one) and return the recall found."""
    queries = _sample(vectors if tuning_queries is None else tuning_queries, config)
    exact_scores, _ = exact.search(queries, config.recall_k)
    recall = 0.0
    for effort in _efforts(kind, config, list_count):
        set_search_effort(searcher, kind, effort)
        recall = recall_at_k(searcher, vectors, queries, exact_scores)
        if recall >= config.recall_min:
            break
    return recall


def _efforts(kind: IndexKind, config: IndexConfig, list_count: int | None) -> list[int]:
    """The search efforts to try, ascending; one when it is configured."""
    if kind.is_ivf:
        assert list_count is not None
        configured, first, last = config.probe_count, _PROBE_COUNT_FIRST, list_count
    elif kind.is_hnsw:
        configured, first, last = config.search_effort, _SEARCH_EFFORT_FIRST, _SEARCH_EFFORT_MAX
    else:
        return [0]
    if configured is not None:
        return [configured]
    efforts = [min(first, last)]
    while efforts[-1] < last:
        efforts.append(min(2 * efforts[-1], last))
    return efforts


def set_search_effort(searcher: FaissSearcher | Int8ListsSearcher, kind: IndexKind, effort: int) -> None:
    """Sets how many lists a search looks into (ivf), or how many candidates it weighs (hnsw)."""
    if isinstance(searcher, Int8ListsSearcher):
        searcher.probe_count = effort
    elif kind.is_ivf:
        searcher.index.nprobe = effort
    elif kind.is_hnsw:
        searcher.index.hnsw.efSearch = effort


def _sample(queries: npt.NDArray[np.float32], config: IndexConfig) -> npt.NDArray[np.float32]:
    if len(queries) <= config.tuning_query_count_max:
        return np.ascontiguousarray(queries)
    rows = np.random.default_rng(config.seed).choice(len(queries), config.tuning_query_count_max, replace=False)
    return queries[np.sort(rows)]


def _report(
    kind: IndexKind,
    device: IndexDevice,
    searcher: Searcher,
    config: IndexConfig,
    recall: float,
    list_count: int | None = None,
    train_s: float = 0.0,
    add_s: float = 0.0,
) -> BuildReport:
    index = searcher.index if isinstance(searcher, FaissSearcher) else None
    probe_count = int(index.nprobe) if index is not None and kind.is_ivf else None
    if isinstance(searcher, Int8ListsSearcher):
        probe_count = searcher.probe_count
    return BuildReport(
        kind=kind.value,
        device=device.value,
        item_count=searcher.item_count,
        dimension=searcher.dimension,
        list_count=list_count,
        probe_count=probe_count,
        search_effort=int(index.hnsw.efSearch) if index is not None and kind.is_hnsw else None,
        recall_k=config.recall_k,
        recall=recall,
        train_s=train_s,
        add_s=add_s,
    )
