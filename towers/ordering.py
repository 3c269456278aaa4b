"""Ordering a few hundred keys inside a kernel: by their digits, since no processor foretells what a sort compares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel

BIN_COUNT = 256
_DIGIT_BITS = 8
_DIGIT_MASK = BIN_COUNT - 1
_KEY_BITS = 63


@kernel
def by_digits(
    keys: NDArray[np.int64], spare: NDArray[np.int64], bins: NDArray[np.int32], count: int, first_bit: int
) -> NDArray[np.int64]:
    """The first `count` keys, none negative, in ascending order of what they are without their lowest `first_bit` bits.

    Equal ones keep the order that they stand in (least significant digit first, Knuth, TAOCP 3, 5.2.5). Returns `keys`
    or `spare`, whose other is overwritten; `bins` (BIN_COUNT,) is overwritten, too.
    """
    any_bit = np.int64(0)
    for place in range(count):
        any_bit |= keys[place]
    here, there, shift = keys, spare, first_bit
    while shift < _KEY_BITS and any_bit >> shift:
        bins[:] = 0
        for place in range(count):
            bins[(here[place] >> shift) & _DIGIT_MASK] += 1
        begin = np.int32(0)
        for digit in range(BIN_COUNT):
            size = bins[digit]
            bins[digit] = begin
            begin += size
        for place in range(count):
            digit = (here[place] >> shift) & _DIGIT_MASK
            there[bins[digit]] = here[place]
            bins[digit] += 1
        here, there, shift = there, here, shift + _DIGIT_BITS
    return here
