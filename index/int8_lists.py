"""Inverted lists of int8 blocks: what IVF,SQ8 of FAISS finds, in a quarter of its time.

The lists and their centroids come from FAISS (k-means, on a GPU where there is one). Searching them is ours: centroids
and items are both int8 blocks (index.int8_blocks), scored by integer arithmetic, so that a query's answer does not
depend on the batch that it comes in; the next list is fetched from memory while one is scored; and the k best are kept
by a counting sort, where a heap costs half as much as the scores themselves. docs/decisions/0014 has the figures.

Errors: IndexFileInvalid (index.searcher), for a file that is no such index or contradicts itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from index.compiled import read_only
from index.int8_blocks import BLOCK_SIZE, Blocks, block_size_bytes, encode
from index.int8_filtered import search_allowed_lists
from index.int8_kernels import search_lists
from index.mapped_tensors import TensorFileInvalid, open_tensors
from index.searcher import IndexFileInvalid, QueryInvalid, Rows, Scores, check_queries, empty_answer

_CENTROIDS, _LISTS, _SIZES, _FACTS = "centroids", "lists", "sizes", "dimension_and_probe_count"


class Int8ListsSearcher:
    """A searcher over inverted lists of int8 blocks; ties go to the lower row."""

    def __init__(
        self,
        centroids: Blocks,
        lists: Blocks,
        sizes: npt.NDArray[np.int32],
        dimension: int,
        probe_count: int,
    ) -> None:
        """`sizes` (L,): items of each list; lists begin at whole blocks, one after another, as do the centroids.

        Raises IndexFileInvalid when they do not fit together.
        """
        blocks = -(-sizes.astype(np.int64) // BLOCK_SIZE)  # (L,)
        width = block_size_bytes(dimension)
        wanted = ((-(-len(sizes) // BLOCK_SIZE), width), (int(blocks.sum()), width))
        found = (centroids.data.shape, lists.data.shape)
        if found != wanted or sizes.min(initial=0) < 0:
            raise IndexFileInvalid(f"blocks of centroids and lists have the shapes {found}, their sizes say {wanted}")
        if not 1 <= probe_count <= len(sizes):
            raise IndexFileInvalid(f"{probe_count} of {len(sizes)} lists cannot be looked into")
        self._centroids, self._lists, self._sizes = centroids, lists, sizes.view()
        self._sizes.flags.writeable = False  # one type for built and mapped, so that kernels are compiled once
        self._begins = np.cumsum(blocks) - blocks
        self._item_count = int(sizes.sum())
        self._dimension, self.probe_count = dimension, probe_count

    @classmethod
    def from_faiss(cls, index: Any, vectors: npt.NDArray[np.float32]) -> Int8ListsSearcher:
        """The lists of a filled IVF index of FAISS over `vectors` (n, D), and its nprobe."""
        centroids = faiss.downcast_index(index.quantizer).reconstruct_n(0, index.nlist)  # (L, D)
        sizes = np.array([index.invlists.list_size(at) for at in range(index.nlist)], np.int32)
        blocks = -(-sizes // BLOCK_SIZE)
        data = np.empty((blocks.sum(), block_size_bytes(index.d)), np.uint8)
        begin = 0
        for at in range(index.nlist):
            rows = np.sort(faiss.rev_swig_ptr(index.invlists.get_ids(at), int(sizes[at])))
            data[begin : begin + blocks[at]] = encode(vectors[rows], rows.astype(np.int32))
            begin += blocks[at]
        numbers = np.arange(index.nlist, dtype=np.int32)
        return cls(Blocks.of(encode(centroids, numbers)), Blocks.of(data), sizes, index.d, index.nprobe)

    @classmethod
    def open(cls, path: Path) -> Int8ListsSearcher:
        """Map a searcher from a file whose checksum has been verified. Raises IndexFileInvalid, OSError."""
        try:
            tensors = open_tensors(path)
            kinds = {_CENTROIDS: ("u1", 2), _LISTS: ("u1", 2), _SIZES: ("i4", 1), _FACTS: ("i8", 1)}
            for name, (kind, axes) in kinds.items():
                tensor = tensors[name]
                if tensor.dtype != kind or tensor.ndim != axes:
                    raise IndexFileInvalid(f"{path}: {name} has shape {tensor.shape} and type {tensor.dtype}")
            dimension, probe_count = tensors[_FACTS].tolist()
            centroids, lists = (Blocks.of(tensors[name]) for name in (_CENTROIDS, _LISTS))
            return cls(centroids, lists, tensors[_SIZES], dimension, probe_count)
        except (TensorFileInvalid, KeyError, ValueError) as error:
            raise IndexFileInvalid(f"{path} holds no inverted lists: {error}") from error

    def save(self, path: Path) -> None:
        """Write the lists, and probe_count as set."""
        facts = np.array([self._dimension, self.probe_count], np.int64)
        tensors: dict[str, npt.NDArray[Any]] = {
            _CENTROIDS: self._centroids.data,
            _LISTS: self._lists.data,
            _SIZES: self._sizes,
            _FACTS: facts,
        }
        save_file(tensors, path)

    @property
    def item_count(self) -> int:
        """n."""
        return self._item_count

    @property
    def dimension(self) -> int:
        """D."""
        return self._dimension

    @property
    def list_count(self) -> int:
        """L."""
        return len(self._sizes)

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        """The k best items of the lists with the best centroids; see Searcher.search. There may be fewer than k."""
        check_queries(queries, k, self._dimension)
        scores, rows = empty_answer(len(queries), k)
        if len(queries):
            search_lists(
                np.ascontiguousarray(queries),
                self.probe_count,
                self._centroids.data,
                self._lists.data,
                self._lists.ids,
                self._begins,
                self._sizes,
                scores,
                rows,
            )
        return scores, rows

    def search_allowed(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_], scored_min: int
    ) -> tuple[Scores, Rows]:
        """The k best allowed items of the lists with the best centroids; `allowed` (n or more,) says which are.

        Looks into `probe_count` lists at least, and into as many as it takes to score `scored_min` allowed items.
        """
        check_queries(queries, k, self._dimension)
        scores, rows = empty_answer(len(queries), k)
        if len(allowed) < self._item_count:
            raise QueryInvalid(f"{len(allowed)} rows are allowed or not, of {self._item_count}")
        if len(queries):
            search_allowed_lists(
                np.ascontiguousarray(queries),
                read_only(allowed),
                scored_min,
                self.probe_count,
                self._centroids.data,
                self._lists.data,
                self._lists.ids,
                self._begins,
                self._sizes,
                scores,
                rows,
            )
        return scores, rows


def warm() -> None:
    """Compiles the search, or loads what was compiled, for a process that forks others."""
    vector = np.ones((1, 1), np.float32)
    blocks = Blocks.of(encode(vector, np.zeros(1, np.int32)))
    searcher = Int8ListsSearcher(blocks, blocks, np.ones(1, np.int32), dimension=1, probe_count=1)
    searcher.search(vector, 1)
    searcher.search_allowed(vector, 1, np.ones(1, np.bool_), 1)
