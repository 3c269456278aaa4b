"""What a model is asked when it is judged on the newest events: one question a user and day.

A question is asked at the moment of the day's first target event, before it: the history ends there, and whatever the
user bought on that day is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.evaluation import Interactions
from towers.evaluation.metrics import SparseRows
from towers.features.histories import BoolArray, Int32Array, Int64Array
from towers.training.cuts import DAY_S


@dataclass(frozen=True, eq=False)
class Questions:
    """Q questions, by day and then user.

    Attributes:
        user_row: (Q,) who is asked. asked_at_s: (Q,) when, epoch seconds.
        relevant: CSR (Q, items), 1 where the user bought the item on that day; no empty row.
    """

    user_row: Int32Array
    asked_at_s: Int64Array
    relevant: SparseRows

    def __len__(self) -> int:
        return len(self.user_row)

    def where(self, mask: BoolArray) -> Questions:
        """Those of the mask (Q,), in the same order."""
        return Questions(self.user_row[mask], self.asked_at_s[mask], self.relevant[np.flatnonzero(mask)])

    def between(self, begin_s: int, end_s: int) -> Questions:
        """Those asked in [begin_s, end_s)."""
        return self.where((self.asked_at_s >= begin_s) & (self.asked_at_s < end_s))


def user_days(targets: Interactions, begin_s: int, end_s: int, candidates: BoolArray) -> Questions:
    """The questions of [begin_s, end_s); days are UTC.

    Args:
        targets: all target events.
        begin_s, end_s: epoch seconds.
        candidates: (items,) items that count as right; a user-day without any is not asked.
    """
    asked = targets.where((targets.time_s >= begin_s) & (targets.time_s < end_s))
    key = (asked.time_s // DAY_S) * targets.user_count + asked.user_row
    days, place = np.unique(key, return_inverse=True)
    first_s = np.full(len(days), np.iinfo(np.int64).max)
    np.minimum.at(first_s, place, asked.time_s)
    right = candidates[asked.item_row]
    everything = Interactions(
        place[right].astype(np.int32), asked.item_row[right], asked.time_s[right], len(days), targets.item_count
    ).distinct_pairs()
    kept = np.flatnonzero(np.diff(everything.indptr))
    return Questions((days[kept] % targets.user_count).astype(np.int32), first_s[kept], everything[kept])
