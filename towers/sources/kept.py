"""The newest fit of each source is kept: a training and the rebuild after it ask as of the same moments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xxhash

from towers.sources.base import CandidateSource
from towers.sources.log import SourceLog


class KeptFits:
    """One fit a source, of whatever it was fitted to last. For one thread."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, CandidateSource]] = {}

    def of(self, name: str, key: str, fit: Callable[[], CandidateSource]) -> CandidateSource:
        """The kept fit, where it was made for the same key; otherwise a new one, which replaces it."""
        if name not in self._kept or self._kept[name][0] != key:
            self._kept.pop(name, None)  # before the new one needs memory
            self._kept[name] = (key, fit())
        return self._kept[name][1]


def log_key(log: SourceLog) -> str:
    """32 hex digits over everything in a log that a source may learn from; codes of item ids are none of it."""
    digest = xxhash.xxh3_128(repr((log.until_s, log.user_attributes)).encode())
    items = log.items
    read = (log.user_row, log.item_row, log.time_s, log.is_target, log.users)
    for array in (*read, items.attribute_code, items.number, items.word):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
