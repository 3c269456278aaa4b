"""Compiled loops: what would be dozens of array operations over a small batch is one call to machine code.

A kernel is a plain function over numpy arrays, written as the loops that it is. It is compiled on its first call for a
set of types and kept on disk beside its source, holds no interpreter lock while it runs, and starts no threads.
Sums are taken in the order written, unless `reorder` lets them be vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_REORDERED = {"contract", "reassoc", "nsz"}  # not nnan, not ninf: -inf and NaN keep their meaning


def kernel(function: F) -> F:
    """Compiles; floating-point results are those of the loops as written."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def reordered_kernel(function: F) -> F:
    """Compiles; sums may be taken in another order, so that they run on vector registers."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_REORDERED)(function))
