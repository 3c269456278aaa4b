"""A searcher as one file: `index.faiss`, `index.int8.safetensors` (inverted lists), `index.int8_exact.safetensors` and
`index.safetensors` (exact, from int8 and in float32 alone).

Errors: IndexFileInvalid (index.searcher), for a file that is none of them, or holds something else.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from index.exact import ExactSearcher
from index.faiss_searcher import FaissSearcher
from index.int8_exact import Int8ExactSearcher
from index.int8_lists import Int8ListsSearcher
from index.mapped_tensors import TensorFileInvalid, open_tensors
from index.searcher import IndexFileInvalid, Searcher, VectorsInvalid

FAISS_INDEX_NAME = "index.faiss"
INT8_INDEX_NAME = "index.int8.safetensors"
INT8_EXACT_INDEX_NAME = "index.int8_exact.safetensors"
EXACT_INDEX_NAME = "index.safetensors"
_NAMES = (FAISS_INDEX_NAME, INT8_INDEX_NAME, INT8_EXACT_INDEX_NAME, EXACT_INDEX_NAME)
_COLUMNS = "columns"

BuiltSearcher = ExactSearcher | FaissSearcher | Int8ListsSearcher | Int8ExactSearcher


def index_file_name(searcher: BuiltSearcher) -> str:
    """The name that the searcher's file must have: it says how the file is read."""
    if isinstance(searcher, ExactSearcher):
        return EXACT_INDEX_NAME
    if isinstance(searcher, Int8ExactSearcher):
        return INT8_EXACT_INDEX_NAME
    return INT8_INDEX_NAME if isinstance(searcher, Int8ListsSearcher) else FAISS_INDEX_NAME


def find_index_file(names: Iterable[str]) -> str:
    """The index among a generation's file names. Raises IndexFileInvalid when there is not exactly one."""
    found = sorted(set(_NAMES).intersection(names))
    if len(found) != 1:
        raise IndexFileInvalid(f"expected one of {', '.join(_NAMES)}, found {' and '.join(found) or 'none'}")
    return found[0]


def save_searcher(searcher: BuiltSearcher, path: Path) -> None:
    """Write the searcher to a file of the name that `index_file_name` gives."""
    if isinstance(searcher, ExactSearcher):
        save_file({_COLUMNS: searcher.columns}, path)
    else:
        searcher.save(path)


def open_searcher(path: Path) -> Searcher:
    """Map a searcher from a file whose checksum has been verified. Raises IndexFileInvalid, OSError."""
    if path.name == FAISS_INDEX_NAME:
        return FaissSearcher.open(path)
    if path.name == INT8_INDEX_NAME:
        return Int8ListsSearcher.open(path)
    if path.name == INT8_EXACT_INDEX_NAME:
        return Int8ExactSearcher.open(path)
    if path.name != EXACT_INDEX_NAME:
        raise IndexFileInvalid(f"{path.name} is not the name of an index; expected one of {', '.join(_NAMES)}")
    try:
        columns = open_tensors(path)[_COLUMNS]
        if columns.ndim != 2 or columns.dtype != np.float32:
            raise IndexFileInvalid(f"{path}: {_COLUMNS} must be (D, n) float32, not {columns.shape} {columns.dtype}")
        return ExactSearcher.from_columns(columns)
    except (TensorFileInvalid, VectorsInvalid, KeyError) as error:
        raise IndexFileInvalid(f"{path} holds no exact index: {error}") from error
