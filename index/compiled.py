"""Compiled loops of this room; `towers.compiled` is the same for the towers, which this room does not import.

A kernel is compiled on its first call for a set of types and kept on disk beside its source, or where NUMBA_CACHE_DIR
says. It holds no interpreter lock while it runs, and starts no threads. An index out of range is not caught.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=np.generic)

_NOWHERE = "compiled kernels are kept nowhere, so every process compiles them; NUMBA_CACHE_DIR names a writable place"


def kernel(function: F) -> F:
    """Compiles; floating-point results are those of the loops as written."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:  # numba found no place that it can write
        warnings.warn(_NOWHERE, stacklevel=1)  # the same place for all kernels, so that it is said once
    return cast(F, dispatcher)


def read_only(values: npt.NDArray[S]) -> npt.NDArray[S]:
    """The same memory under one type, mapped or not, so that kernels are compiled once."""
    view = values.view()
    view.flags.writeable = False
    return view


class _Cache(FunctionCache):
    """Numba's cache of machine code, made to notice every change of the room's code and to survive damaged files."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _stamp()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was kept; nothing where that cannot be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file may fail in any way
            with contextlib.suppress(OSError):
                self.flush()  # so that what is compiled now takes its place
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps it where there is room."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            warnings.warn(f"a compiled kernel is not kept: {error}", stacklevel=1)


@cache
def _stamp() -> str:
    """Changes with any file that kernels are made of: they are in each other's code, as are the block's constants."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    room = Path(__file__).parent
    for path in (*sorted(room.glob("int8_*.py")), room / "hashed_rows.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
