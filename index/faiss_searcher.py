"""Search with FAISS over any of its inner-product indexes: Flat, IVF and HNSW, of float32 or of one byte a dimension.

How many threads a search takes is the process's decision (`faiss.omp_set_num_threads`), not this file's.

Errors: IndexFileInvalid (index.searcher), for a file that is no index of FAISS, or one of the wrong metric.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.searcher import IndexFileInvalid, Rows, Scores, check_queries, empty_answer


class FaissSearcher:
    """A searcher over one FAISS index, whose ids are the item rows."""

    def __init__(self, index: faiss.Index) -> None:
        """Raises IndexFileInvalid when the index does not rank by inner product."""
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise IndexFileInvalid(f"the index has metric {index.metric_type}; only the inner product is searched")
        self._index = index

    @classmethod
    def open(cls, path: Path) -> FaissSearcher:
        """Map an index from a file whose checksum has been verified: FAISS trusts what it reads.

        Raises IndexFileInvalid.
        """
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise IndexFileInvalid(f"{path} is no index of FAISS: {_first_line(error)}") from error
        return cls(index)

    def save(self, path: Path) -> None:
        """Write the index, with nprobe or efSearch as set."""
        faiss.write_index(self._index, str(path))

    @property
    def item_count(self) -> int:
        """n."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._index.d)

    @property
    def index(self) -> Any:
        """The FAISS index itself, for tuning."""
        return self._index

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """The k best items that the index finds; see Searcher.search. IVF may find fewer than k."""
        check_queries(queries, k, self.dimension)
        scores, rows = empty_answer(len(queries), k)
        taken = min(k, self.item_count)
        if taken and len(queries):
            found_scores, found_rows = self._index.search(np.ascontiguousarray(queries), taken)  # (B, taken)
            rows[:, :taken] = found_rows
            np.copyto(scores[:, :taken], found_scores, where=found_rows >= 0)
        return scores, rows


def _first_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1][:200] if str(error).strip() else "no message"
