"""Rows found by the 64-bit hash of their id, compiled: hashes are spread evenly, so a guess lands beside the place.

Interpolation search: of a million hashes the guess is a few hundred places off, which lie in a few cache lines;
halving from the ends would touch as many lines as there are bits in the count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from index.compiled import kernel

_SPAN = float(2**64)


@kernel
def rows_of_hashes(
    hashes: npt.NDArray[np.uint64], hash_rows: npt.NDArray[np.int32], wanted: npt.NDArray[Any]
) -> npt.NDArray[np.int32]:
    """(n,) the `hash_rows[i]` of the first of the ascending `hashes[i]` that equals each of `wanted`, else -1."""
    count = len(hashes)
    found = np.full(len(wanted), -1, np.int32)
    if count == 0:
        return found
    off = int(np.sqrt(count)) + 1  # the guess is off by about half of that, whatever the hashes are
    for place in range(len(wanted)):
        target = wanted[place]
        guess = min(int(np.float64(target) / _SPAN * count), count - 1)
        low, high, step = guess, guess, off
        while low > 0 and hashes[low] >= target:
            low = max(low - step, 0)
            step *= 2
        step = off
        while high < count and hashes[high] < target:
            high = min(high + step, count)
            step *= 2
        while low < high:
            middle = (low + high) >> 1
            if hashes[middle] < target:
                low = middle + 1
            else:
                high = middle
        if low < count and hashes[low] == target:
            found[place] = hash_rows[low]
    return found
