"""The snapshot: what the server knows of items and users as of a rebuild, as named arrays that can be memory-mapped.

Rows are the generation's own: the items that may be recommended come first, so that the index needs no mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.candidates import ItemTable, code_counts
from towers.features.histories import FloatArray, Histories, Int32Array
from towers.learning_data import LearningData, UserTable
from towers.models.ranker import Ranker
from towers.recommender import ranker_item_part
from towers.sources.base import CandidateSource, SourceInvalid
from towers.sources.registry import source_arrays, sources_from_arrays

ITEMS_FILE, USERS_FILE, SOURCES_FILE = "items.safetensors", "users.safetensors", "sources.safetensors"
_SPARE = "spare_row_count"
_ITEM_ARRAYS: tuple[tuple[str, type[np.generic], int], ...] = (
    ("vectors", np.float32, 2),
    ("affinity", np.int32, 2),
    ("statistics", np.float32, 2),
    ("popular", np.int32, 1),
    ("retrievable", np.bool_, 1),
    ("item_part", np.float32, 2),
)
_USER_ARRAYS: tuple[tuple[str, type[np.generic], int], ...] = (
    ("offsets", np.int64, 1),
    ("item_row", np.int32, 1),
    ("event_type", np.uint8, 1),
    ("time_s", np.int64, 1),
    ("bucket", np.int32, 1),
    ("attribute", np.int32, 2),
)
"""Name, type and number of axes of the arrays of both files."""


class SnapshotInvalid(ValueError):
    """The arrays contradict each other; the message names the file, the array, and what is wrong with it."""


@dataclass(frozen=True)
class Snapshot:
    """Items and users as of one moment.

    Attributes:
        items: the item table, its spare rows last. item_part: (n, H) the ranker's precomputed share of each item.
        histories: events before the moment, item rows as in `items`.
        users: codes of each user of `histories`.
        spare_row_count: rows of zeros at the end of the item table, for items that appear while it is served.
    """

    items: ItemTable
    item_part: FloatArray
    histories: Histories
    users: UserTable
    spare_row_count: int = 0

    @property
    def item_count(self) -> int:
        """n, without the spare rows."""
        return len(self.items.vectors) - self.spare_row_count

    @property
    def retrievable_count(self) -> int:
        """Rows [0, retrievable_count) may be recommended."""
        return int(np.count_nonzero(self.items.retrievable))

    def item_arrays(self, spare_row_count: int = 0) -> dict[str, NDArray[Any]]:
        """The arrays of ITEMS_FILE, with so many more spare rows."""
        items = self.items
        arrays: dict[str, NDArray[Any]] = {
            "vectors": items.vectors,
            "affinity": items.affinity,
            "statistics": items.statistics,
            "retrievable": items.retrievable,
            "item_part": self.item_part,
        }
        arrays = {name: _extended(array, spare_row_count) for name, array in arrays.items()}
        spare = np.array([self.spare_row_count + spare_row_count], np.int64)
        return {**arrays, "popular": items.popular, _SPARE: spare}

    def source_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of SOURCES_FILE, which a generation without further sources has not."""
        return {name: np.ascontiguousarray(array) for name, array in source_arrays(self.items.sources).items()}

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
        code_counts_min: Sequence[int] = (),
        sources: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> Snapshot:
        """From arrays that may be memory-mapped. Raises SnapshotInvalid when they do not fit each other.

        `sources`: the arrays of SOURCES_FILE; none where the generation has no such file.
        `affinity_attributes` names the columns of the array `affinity`, in order. `code_counts_min`: codes below these
        may come in each of them, whether or not an item has them now; empty: only codes that an item has.
        """
        item_arrays = _typed(ITEMS_FILE, items, _ITEM_ARRAYS)
        affinity = item_arrays["affinity"]
        if affinity.shape[1] != len(affinity_attributes):
            raise SnapshotInvalid(
                f"{ITEMS_FILE}: array affinity has {affinity.shape[1]} columns; the model reads "
                f"{len(affinity_attributes)} attributes"
            )
        user_arrays = _typed(USERS_FILE, users, _USER_ARRAYS)
        table = ItemTable(
            vectors=item_arrays["vectors"],
            statistics=item_arrays["statistics"],
            affinity=affinity,
            affinity_counts=np.maximum(code_counts(affinity), np.array(code_counts_min or 0, np.int64)),
            popular=item_arrays["popular"],
            retrievable=item_arrays["retrievable"],
            sources=_sources(sources),
        )
        histories = Histories(
            user_arrays["offsets"],
            user_arrays["item_row"],
            user_arrays["event_type"],
            user_arrays["time_s"],
            target_codes,
        )
        user_table = UserTable(user_arrays["bucket"], user_arrays["attribute"])
        spare = int(items[_SPARE][0]) if _SPARE in items and items[_SPARE].size == 1 else 0  # older ones have none
        snapshot = cls(table, item_arrays["item_part"], histories, user_table, spare)
        snapshot.check()
        return snapshot

    def check(self) -> None:
        """Every array agrees with the others in length, and every row number exists. Raises SnapshotInvalid."""
        row_count, event_count = len(self.items.vectors), len(self.histories.item_row)
        if not 0 <= self.spare_row_count <= row_count - self.retrievable_count:
            raise SnapshotInvalid(f"{ITEMS_FILE}: array {_SPARE}: {self.spare_row_count} of {row_count} rows")
        user_count, log = self.histories.user_count, self.histories
        ends = log.offsets[[0, -1]].tolist() if user_count >= 0 else []
        if ends != [0, event_count] or (np.diff(log.offsets) < 0).any():
            raise SnapshotInvalid(f"{USERS_FILE}: array offsets does not cover {event_count} events in ascending order")
        lengths = {
            f"{ITEMS_FILE}: array statistics": (self.items.statistics, row_count),
            f"{ITEMS_FILE}: array retrievable": (self.items.retrievable, row_count),
            f"{ITEMS_FILE}: array item_part": (self.item_part, row_count),
            f"{ITEMS_FILE}: array affinity": (self.items.affinity, row_count),
            f"{USERS_FILE}: array event_type": (log.event_type, event_count),
            f"{USERS_FILE}: array time_s": (log.time_s, event_count),
            f"{USERS_FILE}: array bucket": (self.users.bucket, user_count),
            f"{USERS_FILE}: array attribute": (self.users.attribute, user_count),
        }
        for what, (values, expected) in lengths.items():
            if len(values) != expected:
                raise SnapshotInvalid(f"{what} has {len(values)} rows; the others say {expected}")
        for name, source in self.items.sources.items():
            if source.item_count != self.item_count:
                raise SnapshotInvalid(
                    f"{SOURCES_FILE}: source {name} is of {source.item_count} items; the others say {self.item_count}"
                )
        if not self.items.retrievable[: self.retrievable_count].all():
            raise SnapshotInvalid(f"{ITEMS_FILE}: array retrievable: the retrievable rows do not come first")
        _check_rows(f"{USERS_FILE}: array item_row", log.item_row, self.item_count)
        _check_rows(f"{ITEMS_FILE}: array popular", self.items.popular, self.retrievable_count)
        if (lowest := self.items.affinity.min(initial=0)) < 0:
            raise SnapshotInvalid(f"{ITEMS_FILE}: array affinity holds the code {lowest}")


def _sources(arrays: Mapping[str, NDArray[Any]]) -> dict[str, CandidateSource]:
    try:
        return sources_from_arrays(arrays)
    except SourceInvalid as error:
        raise SnapshotInvalid(f"{SOURCES_FILE}: {error}") from error


def _extended(array: NDArray[Any], row_count: int) -> NDArray[Any]:
    if row_count == 0:
        return array
    return np.concatenate([array, np.zeros((row_count, *array.shape[1:]), array.dtype)])


def _typed(
    file: str, arrays: Mapping[str, NDArray[Any]], wanted: Sequence[tuple[str, type[np.generic], int]]
) -> dict[str, NDArray[Any]]:
    """The wanted arrays, each of its type and number of axes."""
    for name, dtype, axis_count in wanted:
        if name not in arrays:
            raise SnapshotInvalid(f"{file}: array {name} is missing")
        array = arrays[name]
        if array.dtype != dtype or array.ndim != axis_count:
            raise SnapshotInvalid(
                f"{file}: array {name} is {array.dtype} of shape {array.shape}; expected {np.dtype(dtype)} "
                f"with {axis_count} axes"
            )
    return {name: arrays[name] for name, _, _ in wanted}


def _check_rows(what: str, rows: Int32Array, row_count: int) -> None:
    if len(rows) and (rows.min() < 0 or rows.max() >= row_count):
        raise SnapshotInvalid(f"{what} names rows {rows.min()} … {rows.max()} where there are {row_count}")


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
        affinity=np.ascontiguousarray(items.affinity[order]),
        affinity_counts=items.affinity_counts,
        popular=place[items.popular],
        retrievable=items.retrievable[order],
        sources={name: source.reordered(order, place) for name, source in items.sources.items()},
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
