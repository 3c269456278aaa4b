"""Every user of the log as a request would see them when the log ends: so that a fit weighs events as asking does."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from towers.features.histories import HistoryBatch
from towers.sources.log import SourceLog
from towers.sources.profiles import Profiles, profiles
from towers.sources.settings import ProfileSettings


def all_histories(log: SourceLog) -> HistoryBatch:
    """The histories of all U users as of the log's end; types of events are not told apart."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(log.user_row, minlength=log.user_count))]).astype(np.int64)
    return HistoryBatch(
        offsets=offsets,
        item_row=log.item_row,
        event_type=np.zeros(len(log.item_row), np.uint8),
        time_s=log.time_s,
        is_target=log.is_target,
        as_of_s=np.full(log.user_count, log.until_s, np.int64),
    )


def newest_items(log: SourceLog, items_max: int) -> csr_matrix:
    """(U, n) float32: 1 where the item is among the user's newest `items_max` distinct ones."""
    return matrix_of(profiles(all_histories(log), ProfileSettings(items_max=items_max), log.item_count), log.item_count)


def matrix_of(own: Profiles, item_count: int) -> csr_matrix:
    """(B, n) float32, columns ascending."""
    shape = (len(own.offsets) - 1, item_count)
    matrix = csr_matrix((own.weight, own.item_row.astype(np.int32), own.offsets), shape=shape, dtype=np.float32)
    matrix.sort_indices()
    return matrix
