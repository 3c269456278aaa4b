"""The ids of a generation's items and of those that came after it: new items stand behind the generation's own rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from index.compiled import read_only
from index.item_ids import ItemIds, WrittenIds, hash_item_id


class LiveItemIds:
    """`ItemIds` that can grow, with the same look-ups. As long as nothing was added they cost what those cost.

    `add` is for whoever may change the live tables, between two batches of the engine; the rest is for the batch.
    """

    def __init__(self, base: ItemIds) -> None:
        self._base = base
        self._base_count = len(base)
        self._added: list[str] = []
        self._row_of: dict[str, int] = {}
        self._row_of_hash: dict[int, int] = {}

    @property
    def base(self) -> ItemIds:
        """The generation's own ids."""
        return self._base

    @property
    def added(self) -> Sequence[str]:
        """The ids behind them, in the order of their rows."""
        return self._added

    def __len__(self) -> int:
        return self._base_count + len(self._added)

    def add(self, item_id: str) -> int:
        """Numbers a new id; its row. An id that has a row already is the caller's mistake."""
        row = len(self)
        self._added.append(item_id)
        self._row_of[item_id] = row
        self._row_of_hash[hash_item_id(item_id.encode("utf-8", "surrogatepass"))] = row
        return row

    def rows(self, ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """The row of each id, shape (len(ids),), int32; -1 where the id is unknown."""
        rows = self._base.rows(ids)
        if self._added:
            for place in np.flatnonzero(rows < 0).tolist():
                rows[place] = self._row_of.get(ids[place], -1)
        return rows

    def rows_of_hashes(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """The row of each 64-bit XXH3 of an id, shape (len(hashes),), int32; -1 where no id has it, and for 0."""
        rows = self._base.rows_of_hashes(hashes)
        if self._added:
            for place in np.flatnonzero(rows < 0).tolist():
                rows[place] = self._row_of_hash.get(int(hashes[place]), -1)
        return rows

    def ids(self, rows: npt.NDArray[np.integer[Any]] | Sequence[int]) -> list[str]:
        """The id of each row. Raises ItemRowUnknown for a row that no item has, -1 included."""
        if not self._added:
            return self._base.ids(rows)
        wanted = np.asarray(rows, np.int64)
        behind = (wanted >= self._base_count) & (wanted < len(self))
        if not behind.any():
            return self._base.ids(wanted)
        found = self._base.ids(np.where(behind, 0, wanted)) if self._base_count else [""] * len(wanted)
        for place in np.flatnonzero(behind).tolist():
            found[place] = self._added[int(wanted[place]) - self._base_count]
        return found

    def written(self, rows: npt.NDArray[np.int32]) -> WrittenIds:
        """Where the ids of rows, of any shape, are written; a text of their own when an added item is among them."""
        if not self._added or not (rows >= self._base_count).any():
            return self._base.written(rows)
        asked = rows >= 0
        distinct, places = np.unique(rows[asked], return_inverse=True)
        renumbered = np.full(rows.shape, -1, np.int32)
        renumbered[asked] = places
        encoded = [item_id.encode() for item_id in self.ids(distinct)]
        offsets = np.zeros(len(encoded) + 1, np.uint64)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        return WrittenIds(np.frombuffer(b"".join(encoded), np.uint8), read_only(offsets), renumbered)
