"""A small shop for the sources' contract: a log with baskets, repeats and cold items, and requests of every kind."""

from __future__ import annotations

import dataclasses

import numpy as np

from towers.features.histories import Histories, HistoryBatch, Int32Array
from towers.features.items import ItemArrays, ItemEncoder
from towers.features.vocabularies import Vocabulary
from towers.learning_data import Encoders, LearningData, UserTable
from towers.sources.base import Shown, SourceRequest

DAY_S = 86_400
UNTIL_S = 60 * DAY_S
USER_COUNT, ITEM_COUNT, COLD_COUNT = 40, 30, 3
"""The last COLD_COUNT items come in no event."""


def shop(seed: int = 3, *, with_later: bool = True) -> LearningData:
    """Events in the sixty days before UNTIL_S, several in one moment; and, where asked for, as many from then on."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USER_COUNT):
        for _ in range(int(rng.integers(0, 9))):
            day, taste = int(rng.integers(0, 60)), user % 3
            for _ in range(int(rng.integers(1, 4))):
                item = min(int(rng.integers(0, 9)) * 3 + (taste if rng.random() < 0.7 else 0), ITEM_COUNT - 4)
                rows.append((user, day * DAY_S, item, int(rng.random() < 0.6)))
    if with_later:
        rows += [
            (user, UNTIL_S + int(day) * DAY_S, int(rng.integers(0, ITEM_COUNT)), 1)
            for user in range(USER_COUNT)
            for day in range(4)  # the first of them at UNTIL_S itself
        ]
    user, time_s, item, kind = np.array(sorted(rows, key=lambda row: row[:2]), np.int64).T
    histories = Histories.from_events(
        user.astype(np.int32), item.astype(np.int32), kind.astype(np.uint8), time_s, USER_COUNT, [1]
    )
    # Attributes are drawn apart from the events, so that they are the same with and without the later ones.
    attributes = np.random.default_rng(seed + 1)
    items = ItemArrays(
        id_code=np.zeros(ITEM_COUNT, np.int32),
        attribute_code=attributes.integers(0, 5, (ITEM_COUNT, 2)).astype(np.int32),
        number=attributes.normal(size=(ITEM_COUNT, 1)).astype(np.float32),
        word=attributes.integers(0, 20, (ITEM_COUNT, 4)).astype(np.int32),
    )
    users = UserTable(
        np.zeros(USER_COUNT, np.int32),
        np.stack([attributes.integers(0, 4, USER_COUNT), attributes.integers(0, 3, USER_COUNT)], 1).astype(np.int32),
    )
    age, home = Vocabulary.of(["young", "old", "older"]), Vocabulary.of(["town", "country"])
    encoders = Encoders(
        ItemEncoder(Vocabulary.of([]), {}, {}, ()), {"age": age, "home": home}, {}, ("view", "purchase"), ("purchase",)
    )
    return LearningData(encoders, items, users, histories, np.zeros((len(user), 0), np.int32))


def requests(data: LearningData) -> SourceRequest:
    """Every user as of UNTIL_S, one after another, and three of whom the log knows nothing."""
    rows = np.concatenate([np.arange(USER_COUNT), [-1, -1, -1]]).astype(np.int32)
    histories = data.histories.batch(rows, np.full(len(rows), UNTIL_S, np.int64), 1_000)
    attribute = np.concatenate([data.users.attribute, [[1, 1], [0, 2], [9, 9]]]).astype(np.int32)
    return SourceRequest(histories, attribute)


def single(request: SourceRequest, place: int) -> SourceRequest:
    """One of the batch alone."""
    histories = request.histories
    events = slice(histories.offsets[place], histories.offsets[place + 1])
    alone = HistoryBatch(
        np.array([0, events.stop - events.start], np.int64),
        histories.item_row[events],
        histories.event_type[events],
        histories.time_s[events],
        histories.is_target[events],
        histories.as_of_s[place : place + 1],
    )
    return SourceRequest(alone, request.attribute[place : place + 1])


def with_rows(request: SourceRequest, item_row: Int32Array) -> SourceRequest:
    """The same events about other items."""
    return dataclasses.replace(request, histories=dataclasses.replace(request.histories, item_row=item_row))


def everything(request_count: int, item_count: int = ITEM_COUNT) -> Shown:
    """Nothing is hidden."""
    return Shown(
        np.ones(item_count, np.bool_),
        np.zeros(request_count + 1, np.int64),
        np.zeros(0, np.int32),
        np.zeros((0, item_count), np.bool_),
        np.full(request_count, -1, np.int64),
    )


def some(request_count: int, seed: int = 5, item_count: int = ITEM_COUNT) -> Shown:
    """Items that are not retrievable, items excluded from single requests, filters on two of three requests."""
    rng = np.random.default_rng(seed)
    excluded = [np.flatnonzero(rng.random(item_count) < 0.2) * (place % 4 > 0) for place in range(request_count)]
    excluded = [np.unique(rows).astype(np.int32) if place % 4 else rows[:0] for place, rows in enumerate(excluded)]
    return Shown(
        rng.random(item_count) < 0.8,
        np.concatenate([[0], np.cumsum([len(rows) for rows in excluded])]).astype(np.int64),
        np.concatenate(excluded).astype(np.int32),
        rng.random((2, item_count)) < 0.5,
        np.arange(request_count, dtype=np.int64) % 3 - 1,
    )


def may_be_shown(shown: Shown) -> np.ndarray:
    """(B, n) bool."""
    allowed = np.tile(shown.retrievable, (len(shown.mask_of), 1))
    for place, mask in enumerate(shown.mask_of):
        allowed[place, shown.excluded_rows[shown.excluded_offsets[place] : shown.excluded_offsets[place + 1]]] = False
        if mask >= 0:
            allowed[place] &= shown.masks[mask]
    return allowed
