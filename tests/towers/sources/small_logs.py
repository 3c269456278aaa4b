"""Small logs for the fits of sources, and requests of what somebody did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.towers.random_logs import DAY_S
from towers.features.histories import HistoryBatch
from towers.features.items import ItemArrays
from towers.sources.base import SourceRequest
from towers.sources.log import SourceLog

UNTIL_S = 1_000 * DAY_S

Did = Sequence[tuple[int, int]]
"""Item row and age in days, oldest first."""


def source_log(users: Sequence[Did], item_count: int) -> SourceLog:
    """The log of users, each with what they did."""
    user = np.repeat(np.arange(len(users), dtype=np.int64), [len(did) for did in users])
    return SourceLog(
        user_row=user,
        item_row=np.array([row for did in users for row, _ in did], np.int32),
        time_s=np.array([UNTIL_S - age * DAY_S for did in users for _, age in did], np.int64),
        is_target=np.ones(len(user), np.bool_),
        until_s=UNTIL_S,
        users=np.zeros((len(users), 0), np.int32),
        items=ItemArrays(
            id_code=np.zeros(item_count, np.int32),
            attribute_code=np.zeros((item_count, 0), np.int32),
            number=np.zeros((item_count, 0), np.float32),
            word=np.zeros((item_count, 0), np.int32),
        ),
    )


def random_log(seed: int, user_count: int, item_count: int, events_max: int) -> SourceLog:
    """Users with 0 to `events_max` events of any items, ages descending."""
    random = np.random.default_rng(seed)
    users = []
    for _ in range(user_count):
        count = int(random.integers(0, events_max + 1))
        ages = np.sort(random.integers(1, 300, count))[::-1]
        users.append(
            [(int(row), int(age)) for row, age in zip(random.integers(0, item_count, count), ages, strict=True)]
        )
    return source_log(users, item_count)


def source_request(shoppers: Sequence[Did]) -> SourceRequest:
    """Requests at UNTIL_S of shoppers who did this."""
    log = source_log(shoppers, 0)
    count = np.bincount(log.user_row, minlength=len(shoppers))
    batch = HistoryBatch(
        offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        item_row=log.item_row,
        event_type=np.zeros(len(log.item_row), np.uint8),
        time_s=log.time_s,
        is_target=log.is_target,
        as_of_s=np.full(len(shoppers), UNTIL_S, np.int64),
    )
    return SourceRequest(batch, np.zeros((len(shoppers), 0), np.int32))
