"""Safetensors files as memory-mapped numpy arrays, so that worker processes share one copy of what they only read.

`safetensors.numpy` copies what it loads; the format is simple enough to map: u64 header size | JSON header | data.
https://github.com/huggingface/safetensors#format

Errors:
    ValueError
    └── TensorFileInvalid   the file contradicts itself or holds what numpy has no type for
"""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER_SIZE_BYTES_MAX = 16 * 2**20
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


class TensorFileInvalid(ValueError):
    """A safetensors file that cannot be mapped."""


def open_tensors(path: Path, *, private: bool = False) -> dict[str, npt.NDArray[Any]]:
    """Map every tensor of a file by name, read-only and without a copy. Raises TensorFileInvalid, OSError.

    `private`: writable, and a page that is written to becomes this process's own; the file stays as it is.
    """
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        header_size_bytes = int.from_bytes(file.read(8), "little")
        if size_bytes < 8 or header_size_bytes > min(_HEADER_SIZE_BYTES_MAX, size_bytes - 8):
            raise TensorFileInvalid(f"{path}: a header of {header_size_bytes} bytes in a file of {size_bytes}")
        try:
            header = json.loads(file.read(header_size_bytes))
        except (ValueError, RecursionError) as error:
            raise TensorFileInvalid(f"{path}: the header is not JSON: {error}") from error
        if not isinstance(header, dict):
            raise TensorFileInvalid(f"{path}: the header is a {type(header).__name__}, not an object")
        access = mmap.ACCESS_COPY if private else mmap.ACCESS_READ
        data = memoryview(mmap.mmap(file.fileno(), 0, access=access))[8 + header_size_bytes :]
    try:
        return {name: _tensor(data, entry) for name, entry in header.items() if name != "__metadata__"}
    except (KeyError, TypeError, ValueError) as error:
        raise TensorFileInvalid(f"{path}: {error!r}") from error


def _tensor(data: memoryview, entry: dict[str, Any]) -> npt.NDArray[Any]:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    shape = tuple(int(length) for length in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(data):
        raise ValueError(f"bytes {begin} to {end} of {len(data)} for shape {shape}")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"shape {shape} of {dtype} does not fill {end - begin} bytes")
    return np.frombuffer(data[begin:end], dtype).reshape(shape)
