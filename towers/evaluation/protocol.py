"""The strict time split: everything before one moment may be learned from, everything after it is asked.

candidates  items with at least `item_users_min` distinct users in train
users       those with a candidate item in test and any history in train
relevant    the distinct candidate items of the user in test
new only    the same without what the user already had in train; users for whom nothing is left drop out
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from towers.evaluation.interactions import Interactions
from towers.evaluation.metrics import NO_ITEM, IntArray, SparseRows, hit_places


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Who is asked and what counts as right; every ranking of it is (U, K) in the order of `user_rows`."""

    item_count: int
    candidate_rows: npt.NDArray[np.int32]  # (C,) ascending
    user_rows: npt.NDArray[np.int32]  # (U,) ascending
    relevant: SparseRows  # CSR (U, item_count), no empty row
    bought: SparseRows  # CSR (U, item_count): what the user had in train, candidates or not
    asked_at_s: int  # the moment of the requests: the end of train
    exclude_bought: bool = False  # whether rankings leave out what the user had in train

    @property
    def user_count(self) -> int:
        """Number of users asked."""
        return len(self.user_rows)

    def new_only(self) -> EvaluationSet:
        """The same question about items new to the user, on the users for whom one is relevant.

        Raises:
            ValueError: nobody has such an item.
        """
        relevant = (self.relevant - self.relevant.multiply(self.bought)).tocsr()
        relevant.eliminate_zeros()
        kept = np.flatnonzero(np.diff(relevant.indptr))
        if not len(kept):
            raise ValueError("no user has an item in test that is new to them")
        return replace(
            self,
            user_rows=self.user_rows[kept],
            relevant=relevant[kept],
            bought=self.bought[kept],
            exclude_bought=True,
        )

    def without_bought(self, rankings: IntArray) -> IntArray:
        """The rankings (U, K) with what the user had in train taken out; the rest moves up, -1 fills the end."""
        dropped = hit_places(rankings, self.bought) | (rankings == NO_ITEM)
        order = np.argsort(dropped, axis=1, kind="stable")  # kept places first, in their order
        kept: IntArray = np.take_along_axis(np.where(dropped, NO_ITEM, rankings), order, axis=1)
        return kept


@dataclass(frozen=True, eq=False)
class TimeSplit:
    """What may be learned from, and what is asked about the time after it."""

    train: Interactions
    evaluation_set: EvaluationSet


def split_by_time(
    interactions: Interactions, *, train_end_s: int, test_end_s: int | None = None, item_users_min: int = 5
) -> TimeSplit:
    """Split at train_end_s (the first second of test); test ends before test_end_s, or with the log.

    Raises:
        ValueError: the times are out of order, or nothing is left to learn from or to ask.
    """
    if test_end_s is not None and test_end_s <= train_end_s:
        raise ValueError(f"test_end_s {test_end_s} is not after train_end_s {train_end_s}")
    in_train = interactions.time_s < train_end_s
    in_test = ~in_train if test_end_s is None else ~in_train & (interactions.time_s < test_end_s)
    train = interactions.where(in_train)
    pairs = train.distinct_pairs()  # (user_count, item_count)
    is_candidate = np.bincount(pairs.indices, minlength=interactions.item_count) >= item_users_min
    if not is_candidate.any():
        raise ValueError(f"no item has {item_users_min} users before train_end_s {train_end_s}")
    asked = pairs.indptr[interactions.user_row] < pairs.indptr[interactions.user_row + 1]  # (E,) user has a history
    relevant = interactions.where(in_test & asked & is_candidate[interactions.item_row]).distinct_pairs()
    user_rows = np.flatnonzero(np.diff(relevant.indptr)).astype(np.int32)
    if not len(user_rows):
        raise ValueError(f"no user with a history has a candidate item from {train_end_s} to {test_end_s}")
    evaluation_set = EvaluationSet(
        item_count=interactions.item_count,
        candidate_rows=np.flatnonzero(is_candidate).astype(np.int32),
        user_rows=user_rows,
        relevant=relevant[user_rows],
        bought=pairs[user_rows],
        asked_at_s=train_end_s,
    )
    return TimeSplit(train, evaluation_set)
