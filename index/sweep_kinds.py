"""What the sweep builds: every kind of index that might pay, those that are served and those that are only compared."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.build import build_searcher, set_search_effort, training_sample
from index.config import IndexConfig, IndexKind, choose_list_count
from index.exact import ExactSearcher
from index.faiss_searcher import FaissSearcher
from index.int8_exact import Int8ExactSearcher
from index.int8_lists import Int8ListsSearcher
from index.searcher import Searcher
from index.storage import index_file_name, save_searcher
from index.svs_searcher import SvsMissing, SvsSearcher, lvq_works

NSG_ITEMS_MAX = 50_000
"""NSG begins with the exact neighbours of every item, n² inner products: for a million most of an hour."""
_PROBES = (4, 8, 12, 16, 24, 32, 64, 128, 256, 512)
_WIDTHS = (64, 128, 200, 256, 512)
"""efSearch of HNSW, search_L of NSG, the search window of SVS."""
_REFINE_FACTORS = (2, 4, 8)

_OPEN_AND_WEIGH = """
import sys
from pathlib import Path
from index.storage import open_searcher
from index.svs_searcher import SvsSearcher
def anonymous_kb():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
path = Path(sys.argv[1])
before = anonymous_kb()
searcher = {opening}
print((anonymous_kb() - before) / 1024)
"""
"""In a process of its own: this one would find room in what it has freed."""
_ROOT = Path(__file__).parents[1]

_SERVED = {
    "IVF,int8": IndexKind.IVF_INT8,
    "IVF,SQ8": IndexKind.IVF_SQ8,
    "IVF,Flat": IndexKind.IVF_FLAT,
    "HNSW,SQ8": IndexKind.HNSW_SQ8,
    "HNSW,Flat": IndexKind.HNSW_FLAT,
}

Vectors = npt.NDArray[np.float32]
Say = Callable[[str], None]
Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Built:
    """A kind of index, built and ready to be measured at each of its efforts; see sweep.Point."""

    name: str
    searcher: Searcher
    efforts: Sequence[int]
    set_effort: Callable[[int], None]
    kind: IndexKind | None = None
    list_count: int | None = None
    private_mb: float = 0.0
    build_s: float = 0.0


def faiss_kinds(vectors: Vectors, config: IndexConfig, say: Say, wanted: Wanted) -> Iterator[Built]:
    """What is served, built as a rebuild builds it, and what FAISS has besides."""
    for name, kind in _SERVED.items():
        if wanted(name):
            yield _served(name, kind, vectors, config, say)
    if wanted("PQ fast-scan"):
        yield from _fast_scan(vectors, config, say)
    if wanted("NSG"):
        if len(vectors) > NSG_ITEMS_MAX:
            say(f"NSG left out: it begins with the exact neighbours of every item; {NSG_ITEMS_MAX:,} items at most")
            return
        index, build_s = _build(f"NSG{config.link_count},Flat", vectors, vectors, say)
        searcher = FaissSearcher(index)
        widths = [width for width in _WIDTHS if width <= len(vectors)]  # for more FAISS would search for ever
        yield Built(
            "NSG", searcher, widths, partial(setattr, index.nsg, "search_L"), None, None, _private_mb(searcher), build_s
        )


def svs_kinds(vectors: Vectors, config: IndexConfig, say: Say, wanted: Wanted) -> Iterator[Built]:
    """Intel SVS, when it is installed."""
    if not wanted("SVS"):
        return
    try:
        compressed = lvq_works()
    except SvsMissing as missing:
        say(f"SVS left out: {missing}")
        return
    name = f"SVS,{'LVQ8' if compressed else 'float16'}"
    say(f"building {name}" + ("" if compressed else " (its LVQ runs on Intel's processors only)"))
    started = time.perf_counter()
    searcher = SvsSearcher.build(vectors, 2 * config.link_count, config.construction_effort, compressed)
    build_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as directory:
        searcher.save(Path(directory))
        private_mb = _weigh(f"SvsSearcher.open(path, {compressed})", Path(directory))
    yield Built(name, searcher, _WIDTHS, searcher.set_window, None, None, private_mb, build_s)


def _served(name: str, kind: IndexKind, vectors: Vectors, config: IndexConfig, say: Say) -> Built:
    say(f"building {name}")
    started = time.perf_counter()
    once = config.model_copy(update={"kind": kind, "probe_count": 1, "search_effort": 1})  # the sweep sets the effort
    searcher, report = build_searcher(vectors, once, vectors[:1])
    build_s = time.perf_counter() - started
    assert not isinstance(searcher, ExactSearcher | Int8ExactSearcher)
    efforts = _WIDTHS if report.list_count is None else [probe for probe in _PROBES if probe <= report.list_count]
    set_effort = partial(set_search_effort, searcher, kind)
    return Built(name, searcher, efforts, set_effort, kind, report.list_count, _private_mb(searcher), build_s)


def _fast_scan(vectors: Vectors, config: IndexConfig, say: Say) -> Iterator[Built]:
    """Codes of four bits for two dimensions rank roughly: many times k are taken, and sorted by their vectors."""
    lists = choose_list_count(config, IndexKind.IVF_SQ8, len(vectors))
    probes = [probe for probe in _PROBES if probe <= lists]
    sample = training_sample(vectors, config, lists)
    index, build_s = _build(f"IVF{lists},PQ{vectors.shape[1] // 2}x4fs,Refine(SQ8)", vectors, sample, say)
    searcher = FaissSearcher(index)
    private_mb = _private_mb(searcher)
    for factor in _REFINE_FACTORS:

        def set_effort(effort: int, factor: int = factor) -> None:
            index.k_factor = factor
            faiss.extract_index_ivf(index).nprobe = effort

        name = f"PQ fast-scan, refine {factor}"
        yield Built(name, searcher, probes, set_effort, None, lists, private_mb, build_s)


def _build(factory: str, vectors: Vectors, sample: Vectors, say: Say) -> tuple[Any, float]:
    say(f"building {factory}")
    started = time.perf_counter()
    index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    index.add(vectors)
    return index, time.perf_counter() - started


def _private_mb(searcher: FaissSearcher | Int8ListsSearcher) -> float:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / index_file_name(searcher)
        save_searcher(searcher, path)
        return _weigh("open_searcher(path)", path)


def _weigh(opening: str, path: Path) -> float:
    """MB that a fresh process allocates to open the index: about 0 for what is mapped, the whole index otherwise."""
    program = [sys.executable, "-c", _OPEN_AND_WEIGH.format(opening=opening), str(path)]
    weighed = subprocess.run(program, check=True, capture_output=True, text=True, cwd=_ROOT)  # noqa: S603 - nothing of it is foreign
    return max(0.0, float(weighed.stdout))
