"""The snapshot: what the server knows of items and users as of a rebuild, as named arrays that can be memory-mapped.

Rows are the generation's own: the items that may be recommended come first, so that the index needs no mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.candidates import ItemTable
from towers.features.histories import FloatArray, Histories, Int32Array
from towers.learning_data import LearningData, UserTable
from towers.models.ranker import Ranker
from towers.recommender import ranker_item_part

ITEMS_FILE, USERS_FILE = "items.safetensors", "users.safetensors"
_AFFINITY = "affinity/"


class SnapshotInvalid(ValueError):
    """The arrays contradict each other; the message names the array, its shape and what it should be."""


@dataclass(frozen=True)
class Snapshot:
    """Items and users as of one moment.

    Attributes:
        items: the item table. item_part: (n, H) the ranker's precomputed share of each item.
        histories: events before the moment, item rows as in `items`.
        users: codes of each user of `histories`.
    """

    items: ItemTable
    item_part: FloatArray
    histories: Histories
    users: UserTable

    @property
    def retrievable_count(self) -> int:
        """Rows [0, retrievable_count) may be recommended."""
        return int(np.count_nonzero(self.items.retrievable))

    def item_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of ITEMS_FILE."""
        items = self.items
        return {
            "vectors": items.vectors,
            "statistics": items.statistics,
            "popular": items.popular,
            "retrievable": items.retrievable,
            "item_part": self.item_part,
            **{_AFFINITY + name: codes for name, codes in items.affinity.items()},
        }

    def user_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of USERS_FILE."""
        log = self.histories
        return {
            "offsets": log.offsets,
            "item_row": log.item_row,
            "event_type": log.event_type,
            "time_s": log.time_s,
            "bucket": self.users.bucket,
            "attribute": self.users.attribute,
        }

    @classmethod
    def from_arrays(
        cls,
        items: Mapping[str, NDArray[Any]],
        users: Mapping[str, NDArray[Any]],
        target_codes: tuple[int, ...],
        affinity_attributes: tuple[str, ...],
    ) -> Snapshot:
        """From arrays that may be memory-mapped. Raises SnapshotInvalid when they do not fit each other.

        `affinity_attributes` gives the order of the ranker's columns, which a file does not keep.
        """
        try:
            table = ItemTable(
                vectors=items["vectors"],
                statistics=items["statistics"],
                affinity={name: items[_AFFINITY + name] for name in affinity_attributes},
                popular=items["popular"],
                retrievable=items["retrievable"],
            )
            histories = Histories(
                users["offsets"], users["item_row"], users["event_type"], users["time_s"], target_codes
            )
            snapshot = cls(table, items["item_part"], histories, UserTable(users["bucket"], users["attribute"]))
        except KeyError as error:
            raise SnapshotInvalid(f"array {error} is missing") from error
        snapshot.check()
        return snapshot

    def check(self) -> None:
        """Every array agrees with the others in length, and every row number exists."""
        item_count, event_count = len(self.items.vectors), len(self.histories.item_row)
        user_count, log = self.histories.user_count, self.histories
        lengths = {
            "statistics": (len(self.items.statistics), item_count),
            "retrievable": (len(self.items.retrievable), item_count),
            "item_part": (len(self.item_part), item_count),
            **{_AFFINITY + name: (len(codes), item_count) for name, codes in self.items.affinity.items()},
            "event_type": (len(log.event_type), event_count),
            "time_s": (len(log.time_s), event_count),
            "bucket": (len(self.users.bucket), user_count),
            "attribute": (len(self.users.attribute), user_count),
        }
        for name, (found, expected) in lengths.items():
            if found != expected:
                raise SnapshotInvalid(f"array {name} has {found} rows; the others say {expected}")
        if not self.items.retrievable[: self.retrievable_count].all():
            raise SnapshotInvalid("array retrievable: the retrievable rows do not come first")
        for name, rows in (("item_row", log.item_row), ("popular", self.items.popular)):
            if len(rows) and (rows.min() < 0 or rows.max() >= item_count):
                raise SnapshotInvalid(f"array {name} names row {rows.min()} … {rows.max()} of {item_count} items")
        if log.offsets[0] != 0 or log.offsets[-1] != event_count or (np.diff(log.offsets) < 0).any():
            raise SnapshotInvalid(f"array offsets does not cover {event_count} events in ascending order")


def take_snapshot(data: LearningData, items: ItemTable, ranker: Ranker, until_s: int) -> tuple[Snapshot, Int32Array]:
    """Builds the snapshot of everything before `until_s`.

    Returns:
        The snapshot, and (n,) the dataset's item row that stands at each row of the snapshot.
    """
    order = np.argsort(~items.retrievable, kind="stable").astype(np.int32)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    table = ItemTable(
        vectors=np.ascontiguousarray(items.vectors[order]),
        statistics=np.ascontiguousarray(items.statistics[order]),
        affinity={name: np.ascontiguousarray(codes[order]) for name, codes in items.affinity.items()},
        popular=place[items.popular],
        retrievable=items.retrievable[order],
    )
    log = data.histories
    user = np.repeat(np.arange(log.user_count, dtype=np.int32), np.diff(log.offsets))
    known = log.time_s < until_s
    histories = Histories.from_events(
        user[known],
        place[log.item_row[known]],
        log.event_type[known],
        log.time_s[known],
        log.user_count,
        log.target_types,
    )
    return Snapshot(table, ranker_item_part(ranker, table), histories, data.users), order
