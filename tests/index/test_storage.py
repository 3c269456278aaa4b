"""Files of searchers and of tensors: what they hold comes back mapped, and what is broken is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save, save_file

from index.exact import ExactSearcher
from index.mapped_tensors import TensorFileInvalid, open_tensors
from index.searcher import IndexFileInvalid
from index.storage import find_index_file, open_searcher, save_searcher


def test_tensors_come_back_equal_and_read_only(tmp_path: Path) -> None:
    tensors: dict[str, npt.NDArray[Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.array([0.5], np.float16),
        "empty": np.empty((0, 4), np.int64),
        "flag": np.array([True, False]),
        "scalar": np.array(7, np.int32),
    }
    save_file(tensors, tmp_path / "t.safetensors", metadata={"made": "here"})
    mapped = open_tensors(tmp_path / "t.safetensors")
    assert mapped.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(mapped[name], tensor)
        assert mapped[name].dtype == tensor.dtype
        assert not mapped[name].flags.writeable


def _file(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        (2**62).to_bytes(8, "little"),
        _file(b"{"),
        _file(b"[" * 200_000),
        _file([]),
        _file({"a": 1}),
        _file({"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}),
        _file({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}),
        _file({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
        _file({"a": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}),
        _file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}),
        _file({"a": {"dtype": "F32", "shape": "12", "data_offsets": [0]}}),
    ],
)
def test_a_tensor_file_that_contradicts_itself_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(TensorFileInvalid, match=r"t\.safetensors"):
        open_tensors(path)


def test_an_exact_index_is_mapped_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    save_searcher(ExactSearcher(np.eye(4, dtype=np.float32)), path)
    opened = open_searcher(path)
    assert isinstance(opened, ExactSearcher)
    assert not opened.columns.flags.owndata


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.faiss", b"no index at all"),
        ("index.faiss", b""),
        ("index.safetensors", b"no tensors either"),
        ("index.safetensors", save({"other": np.zeros((2, 2), np.float32)})),
        ("index.safetensors", save({"columns": np.zeros((2, 2), np.int64)})),
        ("index.safetensors", save({"columns": np.full((2, 2), np.nan, np.float32)})),
        ("index.bin", b""),
    ],
)
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(IndexFileInvalid):
        open_searcher(path)


def test_an_index_of_another_metric_is_refused(tmp_path: Path) -> None:
    index = faiss.IndexFlatL2(4)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    with pytest.raises(IndexFileInvalid, match="inner product"):
        open_searcher(tmp_path / "index.faiss")


def test_a_generation_has_exactly_one_index() -> None:
    assert find_index_file(["item_ids", "index.faiss"]) == "index.faiss"
    for names in (["item_ids"], ["index.faiss", "index.safetensors"]):
        with pytest.raises(IndexFileInvalid, match="expected one of"):
            find_index_file(names)
