"""What the candidates' sources ask of retrieval, and what confines a request to the items that its filter allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from towers.features.histories import BoolArray, FloatArray, Int64Array


class Retriever(Protocol):
    """Nearest items by inner product; training and serving hand in their own."""

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, Int64Array]:
        """(B, D) → scores (B, k) descending and item rows (B, k), -1 pads."""
        ...


@dataclass(frozen=True, slots=True)
class Confined:
    """The items that one filter allows.

    Attributes:
        rows: (n,) bool, which item rows.
        retriever: nearest items among these alone; finds k of them where there are k.
    """

    rows: BoolArray
    retriever: Retriever


@dataclass(frozen=True, slots=True)
class Allowed:
    """What B requests are confined to.

    Attributes:
        filters: each filter that any of the requests has, once.
        of_request: (B,) the place of each request's among them, -1 without a filter.
        wanted: (B,) how many items a request with a filter is to have candidates for, where there are so many.
    """

    filters: tuple[Confined, ...]
    of_request: Int64Array
    wanted: Int64Array
