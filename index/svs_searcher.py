"""Intel's Scalable Vector Search, which `index tune` measures when it is installed (`pip install scalable-vs`).

A Vamana graph (Subramanya et al. 2019) over vectors in one byte a dimension (LVQ: Aguerrebere et al. 2023), or in
float16 on processors that are not Intel's: there LVQ ends the process that asks for it, so a child process asks.
The server does not offer it, because each process copies the whole index, and because its licence is not an open one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index.searcher import Rows, Scores, check_queries, empty_answer

_ALPHA = 0.95
"""How readily a link is left out for a detour; below 1 for inner products."""
_TRY_LVQ = """
import numpy
from index.svs_searcher import SvsSearcher
SvsSearcher.build(numpy.eye(64, dtype=numpy.float32), 8, 16, compressed=True)
"""
_ROOT = Path(__file__).parents[1]


class SvsMissing(ImportError):
    """The package is not installed."""


def lvq_works() -> bool:
    """Whether LVQ runs on this processor. Raises SvsMissing."""
    _svs()
    return subprocess.run([sys.executable, "-c", _TRY_LVQ], cwd=_ROOT, capture_output=True).returncode == 0  # noqa: S603 - nothing of it is foreign


class SvsSearcher:
    """A searcher over one index of SVS, whose ids are the item rows; one thread."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(
        cls, vectors: npt.NDArray[np.float32], link_count: int, construction_effort: int, compressed: bool
    ) -> SvsSearcher:
        """Index vectors (n, D), by LVQ or in float16, on all cores. Raises SvsMissing."""
        svs = _svs()
        parameters = svs.VamanaBuildParameters(
            alpha=_ALPHA, graph_max_degree=link_count, window_size=max(construction_effort, link_count)
        )
        threads = len(os.sched_getaffinity(0))
        if compressed:
            with tempfile.TemporaryDirectory() as directory:
                path = str(Path(directory) / "vectors.fvecs")
                svs.write_vecs(vectors, path)
                loader = svs.LVQLoader(svs.VectorDataLoader(path, svs.DataType.float32), primary=8)
                index = svs.Vamana.build(parameters, loader, svs.DistanceType.MIP, num_threads=threads)
        else:
            half = vectors.astype(np.float16)
            index = svs.Vamana.build(parameters, half, svs.DistanceType.MIP, num_threads=threads)
        index.num_threads = 1
        return cls(index)

    @classmethod
    def open(cls, directory: Path, compressed: bool) -> SvsSearcher:
        """Read what `save` wrote. Raises SvsMissing."""
        svs = _svs()
        loader = svs.LVQLoader if compressed else svs.VectorDataLoader
        graph, data = svs.GraphLoader(str(directory / "graph")), loader(str(directory / "data"))
        return cls(svs.Vamana(str(directory / "config"), graph, data, svs.DistanceType.MIP, num_threads=1))

    def save(self, directory: Path) -> None:
        """Write the index as three directories inside this one."""
        self._index.save(*(str(directory / name) for name in ("config", "graph", "data")))

    def set_window(self, window: int) -> None:
        """How many of the nearest so far a search keeps looking around."""
        self._index.search_window_size = window

    @property
    def item_count(self) -> int:
        """n."""
        return int(self._index.size)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._index.dimensions)

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """The k best items that the graph leads to; see Searcher.search."""
        check_queries(queries, k, self.dimension)
        scores, rows = empty_answer(len(queries), k)
        taken = min(k, self.item_count)
        if taken and len(queries):
            found_rows, found_scores = self._index.search(np.ascontiguousarray(queries), taken)  # (B, taken)
            rows[:, :taken], scores[:, :taken] = found_rows.astype(np.int64), found_scores
        return scores, rows


def _svs() -> Any:
    try:
        import svs
    except ImportError as error:
        raise SvsMissing("Intel SVS is not installed; pip install scalable-vs") from error
    return svs
