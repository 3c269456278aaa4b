"""A log small enough to compute everything by hand: train ends after day 100, candidates have two users.

distinct users in train: item 0 three, item 1 three, item 2 two, item 5 one (no candidate)
test: user 0 buys 2 (new) · user 1 buys 1 (new) · user 2 only item 5 · user 3 buys 1 again · user 4 has no history
"""

import numpy as np

from towers.evaluation.interactions import Interactions
from towers.evaluation.protocol import TimeSplit, split_by_time

DAY_S = 86_400
TRAIN_END_S = 100 * DAY_S

EVENTS = [  # user, item, day
    (0, 0, 10), (0, 0, 20), (0, 1, 99),
    (1, 0, 30), (1, 2, 98), (1, 2, 99),
    (2, 0, 40), (2, 1, 50), (2, 2, 60),
    (3, 1, 90), (3, 5, 91),
    (0, 2, 101), (1, 1, 102), (2, 5, 103), (3, 1, 104), (4, 0, 105),
]  # fmt: skip


def interactions(events: list[tuple[int, int, int]], user_count: int, item_count: int) -> Interactions:
    users, items, days = (np.array(column) for column in zip(*events, strict=True))
    return Interactions(
        users.astype(np.int32), items.astype(np.int32), days.astype(np.int64) * DAY_S, user_count, item_count
    )


def tiny_split() -> TimeSplit:
    return split_by_time(interactions(EVENTS, user_count=5, item_count=6), train_end_s=TRAIN_END_S, item_users_min=2)
