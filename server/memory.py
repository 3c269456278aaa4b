"""Memory that processes keep to themselves without need: what allocators hold, and pages that a fork need not copy."""

from __future__ import annotations

import ctypes

_POOL_SIZE_BYTES = 16 * 2**10
"""CPython's allocator of small objects (Objects/obmalloc.c) deals in pools of this size, each for one size of block."""
_BLOCK_SIZE_BYTES = range(48, 512 + 1, 16)
"""The sizes of blocks that a `bytes` can take up; those below are few."""
_BYTES_OVERHEAD = 33
_FILLERS_MAX = 50_000
"""Of one size: thrice what the libraries leave, and an end where the allocator is another one."""

_fillers: list[bytes] = []


def give_back_free_memory() -> None:
    """Has the C library give freed memory back to the kernel; does nothing where it is not glibc.

    glibc keeps freed blocks for the next request. After a generation has been loaded they are many and will not be
    needed again: arrays of a whole catalogue that lived for one comparison. Takes some milliseconds.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def fill_gaps_before_fork() -> None:
    """Takes every free block between living small objects, so that what forked processes make goes to pages of its own.

    After large imports there are some ten thousand such gaps, in as many pages. A forked process would put its first
    objects there one by one, and with each the kernel would copy a page: 6 MB for `import grpc`. The gaps are 1 MB.
    """
    for size in _BLOCK_SIZE_BYTES:
        # Blocks in a row, a pool full of them: the allocator has no gap of this size left and has begun a new pool.
        in_a_row, last = 0, 0
        for _ in range(_FILLERS_MAX):
            filler = bytes(size - _BYTES_OVERHEAD)
            _fillers.append(filler)
            in_a_row = in_a_row + 1 if id(filler) - last == size else 0
            last = id(filler)
            if in_a_row >= _POOL_SIZE_BYTES // size - 4:
                break
