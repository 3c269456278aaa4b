"""What every further source does: one small interface, held by one contract suite (tests/contract/test_sources.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from towers.features.histories import BoolArray, FloatArray, HistoryBatch, Int32Array, Int64Array


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What the sources are asked with, for B shoppers.

    Attributes:
        histories: what they did. attribute: (B, A) int32 codes of the users' attributes, 0 unknown.
    """

    histories: HistoryBatch
    attribute: Int32Array


@dataclass(frozen=True, slots=True)
class Shown:
    """What may be shown, for B requests.

    Attributes:
        retrievable: (n,) which rows may be recommended at all.
        excluded_offsets, excluded_rows: as `Exclusions`.
        masks: (F, n) rows that each filter allows. mask_of: (B,) which of them a request has, -1 none.
    """

    retrievable: BoolArray
    excluded_offsets: Int64Array
    excluded_rows: Int32Array
    masks: BoolArray
    mask_of: Int64Array


class Asked(Protocol):
    """One source's answer to B requests."""

    def best(self, k: int, shown: Shown) -> Int32Array:
        """(B, k) the k items of highest score that may be shown, best first, -1 pads; of equal ones the lowest rows.

        Items without a score are not brought.
        """
        ...

    def write_scores(self, rows: Int32Array, out: FloatArray) -> None:
        """Writes the score of each of `rows` (B, K) into `out` (B, K), zeros before; 0 where there is none."""
        ...


class CandidateSource(Protocol):
    """A source as of one moment, over n item rows; rows from n on, which appeared later, it knows nothing of."""

    @property
    def item_count(self) -> int:
        """n."""
        ...

    def ask(self, request: SourceRequest) -> Asked:
        """Its answer to the batch; the answer to each request is that to it alone."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a generation keeps of it."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From what `arrays` gave, possibly memory-mapped. Raises SourceInvalid."""
        ...

    def reordered(self, order: Int32Array, place: Int32Array) -> Self:
        """The same over rows in another order: new row r is old row `order[r]`, old row s is new row `place[s]`."""
        ...


class SourceInvalid(ValueError):
    """The arrays are no such source; the message names the array and what is wrong with it."""


def checked(arrays: Mapping[str, NDArray[Any]], wanted: Mapping[str, tuple[Any, int]]) -> list[NDArray[Any]]:
    """The wanted arrays by name, each of its type and number of axes. Raises SourceInvalid."""
    found = []
    for name, (dtype, axis_count) in wanted.items():
        if name not in arrays:
            raise SourceInvalid(f"array {name} is missing")
        array = arrays[name]
        if array.dtype != dtype or array.ndim != axis_count:
            expected = f"{np.dtype(dtype)} with {axis_count} axes"
            raise SourceInvalid(f"array {name} is {array.dtype} of shape {array.shape}; expected {expected}")
        found.append(array)
    return found
