"""A question is one user and day, asked before the day's first purchase."""

from __future__ import annotations

import numpy as np

from towers.evaluation import Interactions
from towers.updating.questions import user_days

DAY_S = 86_400


def test_user_days_by_hand() -> None:
    rows = [  # user, item, second
        (0, 0, DAY_S + 500),
        (0, 1, DAY_S + 100),  # item 1 is no candidate, yet the day begins with it
        (0, 0, DAY_S + 600),
        (1, 1, DAY_S + 50),  # nothing right on that day
        (0, 2, 2 * DAY_S),
        (1, 2, 2 * DAY_S + 5),
        (1, 2, 3 * DAY_S),  # after the end
        (1, 2, 10),  # before the begin
    ]
    user, item, time_s = np.array(rows, np.int64).T
    targets = Interactions(user.astype(np.int32), item.astype(np.int32), time_s, 2, 3)
    asked = user_days(targets, DAY_S, 3 * DAY_S, np.array([True, False, True]))
    assert asked.user_row.tolist() == [0, 0, 1]
    assert asked.asked_at_s.tolist() == [DAY_S + 100, 2 * DAY_S, 2 * DAY_S + 5]
    assert asked.relevant.toarray().tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert asked.between(2 * DAY_S, 3 * DAY_S).user_row.tolist() == [0, 1]
    assert len(user_days(targets, 20 * DAY_S, 21 * DAY_S, np.ones(3, np.bool_))) == 0
