"""Logs that sources are fitted on, written as (user, day, item) lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from towers.features.items import ItemArrays
from towers.sources.log import SourceLog

DAY_S = 86_400


def log_of(
    events: Sequence[tuple[int, int, int]],
    item_count: int,
    *,
    until_day: int = 100,
    users: Sequence[Sequence[int]] = (),
    user_attributes: tuple[str, ...] = (),
    items: ItemArrays | None = None,
    targets: Sequence[bool] | None = None,
) -> SourceLog:
    """A log of (user, day, item); users come from the events where no attributes are given; all are purchases."""
    user, day, item = np.array(events, np.int64).reshape(-1, 3).T
    order = np.lexsort((day, user))
    user_count = len(users) or int(user.max(initial=-1)) + 1
    return SourceLog(
        user[order],
        item[order].astype(np.int32),
        day[order] * DAY_S,
        np.ones(len(user), np.bool_) if targets is None else np.array(targets)[order],
        until_day * DAY_S,
        np.array(users, np.int32).reshape(user_count, len(user_attributes)),
        items_of(item_count) if items is None else items,
        user_attributes,
    )


def items_of(
    item_count: int,
    attributes: Sequence[Sequence[int]] = (),
    words: Sequence[Sequence[int]] = (),
    numbers: Sequence[Sequence[float]] = (),
) -> ItemArrays:
    """Items with the given codes; columns that are not given are left out."""
    return ItemArrays(
        np.zeros(item_count, np.int32),
        np.array(attributes, np.int32).reshape(item_count, -1),
        np.array(numbers, np.float32).reshape(item_count, -1),
        np.array(words, np.int32).reshape(item_count, -1),
    )


def random_log(seed: int, user_count: int = 25, item_count: int = 14, event_count: int = 160) -> SourceLog:
    """Baskets, repeats, and items that nobody took (the last two)."""
    rng = np.random.default_rng(seed)
    events = [
        (int(rng.integers(user_count)), int(rng.integers(20)), int(rng.integers(item_count - 2)))
        for _ in range(event_count)
    ]
    return log_of([*events, (user_count - 1, 0, 0)], item_count)
