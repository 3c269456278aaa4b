"""From the shop's strings to codes: one vocabulary an attribute, hashed buckets for users and words.

Code 0 always means «not seen in training», so that a newer catalogue or an unknown visitor needs no special case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash
from numpy.typing import NDArray

from towers.features.histories import Int32Array

WORD_BUCKETS = 4_096
WORDS_MAX = 16
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Vocabulary:
    """The values of one column that training saw; value `i` has code `i + 1`."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[str]) -> Vocabulary:
        """The distinct values, sorted."""
        return cls(tuple(sorted(set(values))))

    def __len__(self) -> int:
        """How many codes there are, 0 included."""
        return len(self.values) + 1

    @cached_property
    def _code_of(self) -> dict[str, int]:
        return {value: code for code, value in enumerate(self.values, start=1)}

    def codes(self, values: Sequence[str] | NDArray[np.object_]) -> Int32Array:
        """(n,) int32 codes; 0 for a value that training did not see."""
        code_of = self._code_of
        return np.fromiter((code_of.get(value, 0) for value in values), np.int32, len(values))


@dataclass(frozen=True)
class Quantiles:
    """A number as the quantile it lies in; code 0 is kept for «not known»."""

    edges: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[np.floating], quantile_count: int = 10) -> Quantiles:
        """The inner edges of equally filled bins; repeated edges are merged."""
        inner = np.quantile(values.astype(np.float64), np.arange(1, quantile_count) / quantile_count)
        return cls(tuple(float(edge) for edge in np.unique(inner)))

    def __len__(self) -> int:
        """How many codes there are, 0 included."""
        return len(self.edges) + 2

    def codes(self, values: Sequence[float]) -> Int32Array:
        """(n,) int32 codes, 1 for the lowest bin."""
        return np.searchsorted(np.array(self.edges), np.asarray(values, np.float64), side="right").astype(np.int32) + 1


def user_buckets(user_ids: Sequence[str], bucket_count: int) -> Int32Array:
    """(n,) hash buckets 1 … bucket_count of known users; bucket 0 is kept for users that training did not see."""
    if bucket_count == 0:
        return np.zeros(len(user_ids), np.int32)
    hashes = np.fromiter((xxhash.xxh64_intdigest(user_id.encode()) for user_id in user_ids), np.uint64, len(user_ids))
    return (hashes % np.uint64(bucket_count)).astype(np.int32) + 1


def word_buckets(texts: Sequence[str]) -> NDArray[np.int32]:
    """(n, WORDS_MAX) hash buckets of the first words of each text; 0 pads."""
    table = np.zeros((len(texts), WORDS_MAX), np.int32)
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())[:WORDS_MAX]
        table[row, : len(words)] = [1 + xxhash.xxh64_intdigest(word.encode()) % (WORD_BUCKETS - 1) for word in words]
    return table
