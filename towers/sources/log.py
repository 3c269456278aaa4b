"""What a source is fitted on: the events before one moment, user by user in the order of time, and the items."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from towers.features.histories import BoolArray, FloatArray, Int32Array, Int64Array
from towers.features.items import ItemArrays
from towers.learning_data import LearningData


@dataclass(frozen=True)
class SourceLog:
    """E events of U users with n items, all before `until_s`.

    Attributes:
        user_row, item_row, time_s: (E,) sorted by user and then time. is_target: (E,) purchases and the like.
        users, items: the attributes of all users (U, A) as codes, and of all items.
        user_attributes: (A,) their names.
    """

    user_row: Int64Array
    item_row: Int32Array
    time_s: Int64Array
    is_target: BoolArray
    until_s: int
    users: NDArray[np.int32]
    items: ItemArrays
    user_attributes: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: LearningData, until_s: int) -> SourceLog:
        """The log of a dataset before a moment."""
        log = data.histories
        user = np.repeat(np.arange(log.user_count, dtype=np.int64), np.diff(log.offsets))
        kept = log.time_s < until_s
        return cls(
            user[kept],
            log.item_row[kept],
            log.time_s[kept],
            log.is_target(log.event_type[kept]),
            until_s,
            data.users.attribute,
            data.items,
            tuple(data.encoders.user_attributes),
        )

    def targets(self) -> SourceLog:
        """The target events alone."""
        kept = self.is_target
        return replace(
            self,
            user_row=self.user_row[kept],
            item_row=self.item_row[kept],
            time_s=self.time_s[kept],
            is_target=self.is_target[kept],
        )

    @property
    def item_count(self) -> int:
        """n."""
        return len(self.items)

    @property
    def user_count(self) -> int:
        """U."""
        return len(self.users)

    @property
    def age_days(self) -> FloatArray:
        """(E,) days before `until_s`."""
        return ((self.until_s - self.time_s) / 86_400.0).astype(np.float32)

    def matrix(self, weight: FloatArray | None = None) -> csr_matrix:
        """(U, n) the events counted, or their weights (E,) summed; float32."""
        values = np.ones(len(self.user_row), np.float32) if weight is None else weight
        shape = (self.user_count, self.item_count)
        return csr_matrix((values, (self.user_row, self.item_row)), shape=shape, dtype=np.float32)

    def distinct(self) -> csr_matrix:
        """(U, n) 1 where the user had anything to do with the item."""
        matrix = self.matrix()
        matrix.data[:] = 1
        return matrix
