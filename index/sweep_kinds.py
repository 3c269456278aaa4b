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

from index.config import IndexConfig, IndexKind, choose_list_count
from index.faiss_searcher import FaissSearcher
from index.int8_lists import Int8ListsSearcher
from index.searcher import Searcher
from index.storage import index_file_name, save_searcher
from index.svs_searcher import SvsMissing, SvsSearcher, lvq_works

TRAINING_ROWS_MAX = 262_144
NSG_ITEMS_MAX = 50_000
"""NSG begins with the exact neighbours of every item, n² inner products: for a million most of an hour."""
_PROBES = (4, 8, 12, 16, 24, 32, 64, 128)
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
    """What FAISS builds, and the lists that it builds for ours."""
    for name, kind in (
        ("IVF,int8", IndexKind.IVF_INT8),
        ("IVF,SQ8", IndexKind.IVF_SQ8),
        ("IVF,Flat", IndexKind.IVF_FLAT),
    ):
        if wanted(name):
            yield _inverted_lists(name, kind, vectors, config, say)
    if wanted("PQ fast-scan"):
        yield from _fast_scan(vectors, config, say)
    links = config.link_count
    for name, kind in (("HNSW,SQ8", IndexKind.HNSW_SQ8), ("HNSW,Flat", IndexKind.HNSW_FLAT)):
        if wanted(name):
            index, build_s = _build(f"HNSW{links},{name[5:]}", vectors, config, say)
            searcher = FaissSearcher(index)
            set_effort = partial(setattr, index.hnsw, "efSearch")
            yield Built(name, searcher, _WIDTHS, set_effort, kind, None, _private_mb(searcher), build_s)
    if wanted("NSG"):
        if len(vectors) > NSG_ITEMS_MAX:
            say(f"NSG left out: it begins with the exact neighbours of every item; {NSG_ITEMS_MAX:,} items at most")
            return
        index, build_s = _build(f"NSG{links},Flat", vectors, config, say)
        searcher = FaissSearcher(index)
        set_effort = partial(setattr, index.nsg, "search_L")
        widths = [
            width for width in _WIDTHS if width <= len(vectors)
        ]  # for more than there are FAISS searches for ever
        yield Built("NSG", searcher, widths, set_effort, None, None, _private_mb(searcher), build_s)


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


def _inverted_lists(name: str, kind: IndexKind, vectors: Vectors, config: IndexConfig, say: Say) -> Built:
    lists = choose_list_count(config, kind, len(vectors))
    codes = "Flat" if kind is IndexKind.IVF_FLAT else "SQ8"
    index, build_s = _build(f"IVF{lists},{codes}", vectors, config, say)
    probes = [probe for probe in _PROBES if probe <= lists]
    if kind is not IndexKind.IVF_INT8:
        searcher = FaissSearcher(index)
        set_effort = partial(setattr, index, "nprobe")
        return Built(name, searcher, probes, set_effort, kind, lists, _private_mb(searcher), build_s)
    started = time.perf_counter()
    ours = Int8ListsSearcher.from_faiss(index, vectors)
    build_s += time.perf_counter() - started
    return Built(name, ours, probes, partial(setattr, ours, "probe_count"), kind, lists, _private_mb(ours), build_s)


def _fast_scan(vectors: Vectors, config: IndexConfig, say: Say) -> Iterator[Built]:
    """Codes of four bits for two dimensions rank roughly: many times k are taken, and sorted by their vectors."""
    lists = choose_list_count(config, IndexKind.IVF_SQ8, len(vectors))
    probes = [probe for probe in _PROBES if probe <= lists]
    index, build_s = _build(f"IVF{lists},PQ{vectors.shape[1] // 2}x4fs,Refine(SQ8)", vectors, config, say)
    searcher = FaissSearcher(index)
    private_mb = _private_mb(searcher)
    for factor in _REFINE_FACTORS:

        def set_effort(effort: int, factor: int = factor) -> None:
            index.k_factor = factor
            faiss.extract_index_ivf(index).nprobe = effort

        name = f"PQ fast-scan, refine {factor}"
        yield Built(name, searcher, probes, set_effort, None, lists, private_mb, build_s)


def _build(factory: str, vectors: Vectors, config: IndexConfig, say: Say) -> tuple[Any, float]:
    say(f"building {factory}")
    started = time.perf_counter()
    index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = config.construction_effort
    if not index.is_trained:
        rows = np.random.default_rng(config.seed).permutation(len(vectors))[:TRAINING_ROWS_MAX]
        index.train(vectors[np.sort(rows)])
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
