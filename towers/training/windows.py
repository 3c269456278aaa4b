"""Windows: the log cut into sequences that are each read once for all visits in them.

A visit asks at the event before it: what a causal encoder says there has seen just what the visit's history holds, as
far as the window reaches back. So V visits cost as much as the windows that hold them, not V sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.features.histories import Histories, Int32Array, Int64Array, UInt8Array
from towers.features.requests import gap_buckets
from towers.training.visits import Visits


@dataclass(frozen=True)
class Windows:
    """W windows of up to N events, each with the visits that ask in it.

    Attributes:
        begin, end: (W,) places in the log, `end` excluded; at least one event.
        offsets: (W + 1,) into `visit`.
        visit: (V,) the visits, window after window.
        asks_at: (V,) place in the log of the newest event that the visit sees, -1 where it sees none.
    """

    begin: Int64Array
    end: Int64Array
    offsets: Int64Array
    visit: Int64Array
    asks_at: Int64Array

    def __len__(self) -> int:
        return len(self.begin)

    def take(self, rows: Int64Array) -> Windows:
        """The windows of the given rows (m,), in that order."""
        counts = self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return Windows(self.begin[rows], self.end[rows], offsets, self.visit[index], self.asks_at[index])

    def batches(self, visits_per_batch: int, generator: np.random.Generator) -> list[Windows]:
        """All windows in random order, in batches of about so many visits: ⌈V / visits_per_batch⌉ or fewer."""
        order = generator.permutation(len(self))
        counts = np.diff(self.offsets)[order]
        batch = (np.cumsum(counts) - counts) // visits_per_batch
        batch = np.minimum(batch, -(-len(self.visit) // visits_per_batch) - 1)
        return [self.take(rows) for rows in np.split(order, np.flatnonzero(np.diff(batch)) + 1)]

    def sequences(self, log: Histories, length: int) -> tuple[Int32Array, UInt8Array, Int64Array]:
        """(W, length) item rows, padded in front with -1; event types; buckets of the gaps to what followed."""
        place = self.end[:, None] - np.arange(length, 0, -1)  # (W, N)
        present = place >= self.begin[:, None]
        place = np.maximum(place, 0)
        following = np.minimum(place + 1, len(log.time_s) - 1)
        gap = gap_buckets((log.time_s[following] - log.time_s[place]).ravel()).reshape(place.shape)
        return (
            np.where(present, log.item_row[place], -1).astype(np.int32),
            np.where(present, log.event_type[place], 0).astype(np.uint8),
            np.where(present, gap, 0),
        )

    def columns(self, length: int) -> tuple[Int64Array, Int64Array]:
        """(V,) the window of each visit, and the column of its newest event; -1 where it has none."""
        window = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        column = length - (self.end[window] - self.asks_at)
        return window, np.where(self.asks_at >= 0, column, -1)


def cut_windows(
    visits: Visits, chosen: Int64Array, log: Histories, length: int, generator: np.random.Generator
) -> Windows:
    """Windows that hold every chosen visit once.

    A user's windows end at the newest chosen visit and go back without overlap; where there are several, they are all
    moved by a random number of events, so that each visit sees far back in some epoch.

    Args:
        visits: in the order of the log.
        chosen: (V,) ascending rows of `visits`.
        log: whose users the visits are.
        length: N, events in a window at most.
        generator: draws the moves.
    """
    user = visits.user_row[chosen]
    first = log.offsets[user]
    seen = visits.start[chosen] - 1  # the newest event before the visit
    asks = np.maximum(seen, first)
    is_last = np.append(user[1:] != user[:-1], True) if len(user) else np.zeros(0, np.bool_)
    of_user = np.cumsum(is_last) - is_last
    newest = asks[is_last][of_user]
    move = generator.integers(0, length, np.count_nonzero(is_last))[of_user]
    move = np.where(newest - first + 1 > length, move, 0)
    back = (newest + move - asks) // length  # how many windows before the newest
    begins = np.ones(len(user), np.bool_)
    begins[1:] = (user[1:] != user[:-1]) | (back[1:] != back[:-1])
    end = newest + move - back * length + 1
    rows = np.flatnonzero(begins)
    return Windows(
        begin=np.maximum(first, end - length)[rows],
        end=np.minimum(end, newest + 1)[rows],
        offsets=np.append(rows, len(user)).astype(np.int64),
        visit=chosen,
        asks_at=np.where(seen >= first, seen, -1),
    )
