"""Compiled loops: what would be dozens of array operations over a small batch is one call to machine code.

A kernel is a plain function over numpy arrays, written as the loops that it is. It is compiled on its first call for a
set of types and kept on disk beside its source, holds no interpreter lock while it runs, and starts no threads.
Sums are taken in the order written, unless `reorder` lets them be vectorised. An index out of range is not caught: what
comes from files and requests is checked before it gets here.

NUMBA_CACHE_DIR names another place for compiled kernels; where none can be written, every process compiles for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])

_REORDERED = {"contract", "reassoc", "nsz"}  # not nnan, not ninf: -inf and NaN keep their meaning
_CONSTANTS = (int, float, str, tuple, np.generic)


def kernel(function: F) -> F:
    """Compiles; floating-point results are those of the loops as written."""
    return _compiled(function)


def reordered_kernel(function: F) -> F:
    """Compiles; sums may be taken in another order, so that they run on vector registers."""
    return _compiled(function, fastmath=_REORDERED)


def _compiled(function: F, **options: Any) -> F:
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", **options)(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError as error:  # numba found no place that it can write
        warnings.warn(f"{error}: compiled anew by every process; let NUMBA_CACHE_DIR name a place", stacklevel=3)
    return cast(F, dispatcher)


class _Cache(FunctionCache):
    """Numba's cache of a function's machine code, made to notice changes and to survive what lies on the disk.

    Numba throws machine code away when the function's own file changes. Other files' kernels and constants are in that
    code, too, so here they count.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _stamp(function)

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
            warnings.warn(f"compiled kernels are not kept: {error}", stacklevel=2)


@cache
def _stamp(function: Callable[..., Any]) -> str:
    """Changes with the function's file, with what that imports of kernels and constants, and with this file."""
    digest = hashlib.sha256()
    for path in (__file__, inspect.getfile(function)):
        digest.update(Path(path).read_bytes())
    for name, value in sorted(function.__globals__.items()):
        if isinstance(value, Dispatcher) and value.py_func.__module__ != function.__module__:
            digest.update(f"{name} {_stamp(value.py_func)}\n".encode())
        elif isinstance(value, _CONSTANTS) and not name.startswith("__"):
            digest.update(f"{name} {value!r}\n".encode())
    return digest.hexdigest()
