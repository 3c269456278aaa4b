"""Visits: what the towers learn from. A visit is one user at one second; its targets are what was bought then.

The history of a visit ends strictly before it, so that the items of one basket never betray each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towers.features.histories import BoolArray, HistoryBatch, Int32Array, Int64Array
from towers.learning_data import LearningData


@dataclass(frozen=True)
class Visits:
    """V visits in CSR: visit `v` has the targets `offsets[v]:offsets[v + 1]`.

    Attributes:
        user_row: (V,) int32.
        start: (V,) place in the log where the visit begins; the history ends there.
        time_s: (V,) epoch seconds.
        offsets: (V + 1,) into `target`.
        target: (T,) item rows.
    """

    user_row: Int32Array
    start: Int64Array
    time_s: Int64Array
    offsets: Int64Array
    target: Int32Array

    def __len__(self) -> int:
        return len(self.user_row)

    def between(self, begin_s: int, end_s: int) -> NDArray[np.int64]:
        """The visits whose time lies in [begin_s, end_s)."""
        return np.flatnonzero((self.time_s >= begin_s) & (self.time_s < end_s))

    def histories(self, data: LearningData, chosen: Int64Array, event_count_max: int) -> HistoryBatch:
        """What each chosen visit (B,) saw before it began, bounded as `Histories.batch` bounds it."""
        begin = data.histories.offsets[self.user_row[chosen]]
        return data.histories.spans(begin, self.start[chosen], self.time_s[chosen], event_count_max)

    def all_targets(self, chosen: Int64Array) -> tuple[Int64Array, Int32Array]:
        """Every target of the chosen visits (B,): (place in `chosen`, item row), both (n,)."""
        counts = self.offsets[chosen + 1] - self.offsets[chosen]
        begin = np.concatenate([[0], np.cumsum(counts)[:-1]])
        index = np.arange(counts.sum()) + np.repeat(self.offsets[chosen] - begin, counts)
        return np.repeat(np.arange(len(chosen)), counts), self.target[index]

    def draw_targets(self, chosen: Int64Array, count: int, generator: np.random.Generator) -> Int32Array:
        """(B, count) targets of each chosen visit, drawn with replacement."""
        sizes = self.offsets[chosen + 1] - self.offsets[chosen]
        drawn = (generator.random((len(chosen), count)) * sizes[:, None]).astype(np.int64)
        targets: Int32Array = self.target[self.offsets[chosen][:, None] + drawn]
        return targets


def find_visits(data: LearningData, learnable: BoolArray, only_new: bool) -> Visits:
    """All visits with at least one target among the `learnable` items (items,).

    Args:
        data: the log.
        learnable: items that may be targets.
        only_new: leave out targets that the user bought before.
    """
    log = data.histories
    user = np.repeat(np.arange(log.user_count, dtype=np.int64), np.diff(log.offsets))
    begins = np.ones(len(user), np.bool_)
    begins[1:] = (user[1:] != user[:-1]) | (log.time_s[1:] != log.time_s[:-1])
    visit_of_event = np.cumsum(begins) - 1
    wanted = np.flatnonzero(log.is_target(log.event_type) & learnable[log.item_row])
    if only_new:
        _, first = np.unique(user[wanted] * data.item_count + log.item_row[wanted], return_index=True)
        wanted = np.sort(wanted[first])
    # One target for each item of a visit, however many lines it had.
    _, once = np.unique(visit_of_event[wanted] * data.item_count + log.item_row[wanted], return_index=True)
    wanted = wanted[once]
    used, sizes = np.unique(visit_of_event[wanted], return_counts=True)
    start = np.flatnonzero(begins)[used]
    return Visits(
        user_row=user[start].astype(np.int32),
        start=start,
        time_s=log.time_s[start],
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        target=log.item_row[wanted],
    )
