"""Small logs of events: written by hand, or drawn at random with every awkward case (equal times, nobody, nothing)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from towers.features.histories import ExtraBatch, ExtraEvents, Histories, HistoryBatch

VIEW, PURCHASE = 0, 1
DAY_S = 86_400
ITEM_COUNT = 7

Event = tuple[int, int, int]
"""Item row, event type, time in seconds."""


def histories_of(users: Sequence[Sequence[Event]]) -> Histories:
    """The log of users, each with their events oldest first; purchases are the goal."""
    rows = [(user, *event) for user, events in enumerate(users) for event in events]
    user, item, kind, time_s = np.array(rows, np.int64).reshape(-1, 4).T.copy()
    return Histories.from_events(
        user.astype(np.int32), item.astype(np.int32), kind.astype(np.uint8), time_s, len(users), [PURCHASE]
    )


def extra_of(events: Sequence[tuple[int, int, int, bool]]) -> ExtraEvents:
    """Events that came with a request: item row, type, time, whether it counts as the goal."""
    item, kind, time_s, is_target = np.array(events, np.int64).reshape(-1, 4).T.copy()
    return ExtraEvents(item.astype(np.int32), kind.astype(np.uint8), time_s, is_target.astype(np.bool_))


@dataclass(frozen=True)
class Asked:
    """A log, and B requests to it."""

    log: Histories
    user_rows: list[int]
    as_of_s: list[int]
    extra: list[ExtraEvents | None]

    def batch(self, event_count_max: int = 1_000) -> HistoryBatch:
        """All requests at once."""
        return self.log.batch(
            np.array(self.user_rows, np.int32),
            np.array(self.as_of_s, np.int64),
            event_count_max,
            ExtraBatch.of(self.extra),
        )

    def single(self, place: int, event_count_max: int = 1_000) -> HistoryBatch:
        """One request alone."""
        one = slice(place, place + 1)
        return Asked(self.log, self.user_rows[one], self.as_of_s[one], self.extra[one]).batch(event_count_max)


# Few distinct times, so that equal ones are common; days apart, so that ages and halves of them differ.
_TIMES = st.integers(0, 12).map(lambda step: 1_000_000 + step * 200_000)
_EVENTS = st.tuples(st.integers(0, ITEM_COUNT - 1), st.sampled_from([VIEW, PURCHASE]), _TIMES)
_USERS = st.lists(_EVENTS, max_size=12).map(lambda events: sorted(events, key=lambda event: event[2]))
_EXTRA = st.none() | st.lists(
    st.tuples(st.integers(0, ITEM_COUNT - 1), st.sampled_from([VIEW, PURCHASE]), _TIMES, st.booleans()), max_size=4
).map(extra_of)


@st.composite
def asked(draw: st.DrawFn, requests_min: int = 1) -> Asked:
    """A random log of up to four users and up to five requests to it, some of them by nobody known."""
    log = histories_of(draw(st.lists(_USERS, min_size=1, max_size=4)))
    requests = draw(
        st.lists(st.tuples(st.integers(-1, log.user_count - 1), _TIMES, _EXTRA), min_size=requests_min, max_size=5)
    )
    return Asked(log, [r[0] for r in requests], [r[1] for r in requests], [r[2] for r in requests])
