"""What users did, as arrays: the log of all users, and the batch of histories that one computation sees.

Both are CSR: user (or request) `i` owns the events `offsets[i]:offsets[i + 1]`, oldest first. Training and serving
build the same `HistoryBatch` and hand it to the same feature code, so that features cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel

Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ExtraEvents:
    """Events of one request that the log does not hold: sent inline, or the items of its page or cart.

    All arrays have shape (n,). `is_target` is False for context items: being in the cart is not being bought.
    """

    item_row: Int32Array
    event_type: UInt8Array
    time_s: Int64Array
    is_target: BoolArray


@dataclass(frozen=True, slots=True)
class ExtraBatch:
    """The extra events of B requests: request `i` has `events[offsets[i]:offsets[i + 1]]`, in any order of time."""

    offsets: Int64Array
    events: ExtraEvents

    @classmethod
    def of(cls, parts: Sequence[ExtraEvents | None]) -> ExtraBatch:
        """From the events of each request, None where it has none."""
        offsets = np.zeros(len(parts) + 1, np.int64)
        present = [events for events in parts if events is not None]
        if not present:
            return cls(offsets, _NO_EXTRA)
        np.cumsum([0 if events is None else len(events.item_row) for events in parts], out=offsets[1:])
        joined = ExtraEvents(
            item_row=np.concatenate([events.item_row for events in present]),
            event_type=np.concatenate([events.event_type for events in present]),
            time_s=np.concatenate([events.time_s for events in present]),
            is_target=np.concatenate([events.is_target for events in present]),
        )
        return cls(offsets, joined)

    def joined(self, later: ExtraBatch) -> ExtraBatch:
        """Each request's events of this batch, then those of the other."""
        if len(self.events.item_row) == 0 or len(later.events.item_row) == 0:
            return later if len(self.events.item_row) == 0 else self
        offsets = self.offsets + later.offsets
        here, there = np.diff(self.offsets), np.diff(later.offsets)
        request = np.repeat(np.tile(np.arange(len(here)), 2), np.concatenate([here, there]))
        order = np.argsort(request, kind="stable")
        mine, others = self.events, later.events
        return ExtraBatch(
            offsets,
            ExtraEvents(
                np.concatenate([mine.item_row, others.item_row])[order],
                np.concatenate([mine.event_type, others.event_type])[order],
                np.concatenate([mine.time_s, others.time_s])[order],
                np.concatenate([mine.is_target, others.is_target])[order],
            ),
        )


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """The histories of B requests, each as of its own time; E events in all.

    Attributes:
        offsets: (B + 1,) where each request's events begin.
        item_row: (E,) known items only, never -1.
        event_type: (E,) codes of the dataset's event types.
        time_s: (E,) epoch seconds, ascending within a request, all before the request's `as_of_s`
            (events sent with the request may equal it).
        is_target: (E,) whether the event is of a target type, such as a purchase.
        as_of_s: (B,) epoch seconds of the requests.
    """

    offsets: Int64Array
    item_row: Int32Array
    event_type: UInt8Array
    time_s: Int64Array
    is_target: BoolArray
    as_of_s: Int64Array

    def __len__(self) -> int:
        return len(self.as_of_s)

    @property
    def request_of_event(self) -> Int64Array:
        """(E,) the request that owns each event."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def age_days(self) -> FloatArray:
        """(E,) days between the event and its request, never negative."""
        as_of_s = np.repeat(self.as_of_s, np.diff(self.offsets))
        age_s: FloatArray = np.maximum(as_of_s - self.time_s, 0).astype(np.float32)
        return age_s / np.float32(86_400)


@dataclass(frozen=True, slots=True)
class Histories:
    """The event log of all users; user row `u` owns the events `offsets[u]:offsets[u + 1]`, oldest first.

    Attributes:
        offsets: (U + 1,) int64.
        item_row, event_type, time_s: (E,) as in `HistoryBatch`.
        target_types: codes of the event types that count as the goal, such as purchase.
    """

    offsets: Int64Array
    item_row: Int32Array
    event_type: UInt8Array
    time_s: Int64Array
    target_types: tuple[int, ...]

    @classmethod
    def from_events(
        cls,
        user_row: Int32Array,
        item_row: Int32Array,
        event_type: UInt8Array,
        time_s: Int64Array,
        user_count: int,
        target_types: Sequence[int],
    ) -> Histories:
        """Builds the log from columns (E,) sorted by user and then time."""
        offsets = np.searchsorted(user_row, np.arange(user_count + 1)).astype(np.int64)
        return cls(offsets, item_row, event_type, time_s, tuple(target_types))

    @property
    def user_count(self) -> int:
        """How many users the log has rows for."""
        return len(self.offsets) - 1

    def is_target(self, event_type: UInt8Array) -> BoolArray:
        """(n,) whether each type code counts as the goal."""
        return _targets(self.target_types)[event_type]

    def spans(
        self,
        start: Int64Array,
        end: Int64Array,
        as_of_s: Int64Array,
        event_count_max: int,
        extra: ExtraBatch | None = None,
    ) -> HistoryBatch:
        """The events `start[i]:end[i]` (B,) of the log as the history of request `i`; the rest as in `batch`."""
        targets = _targets(self.target_types)
        offsets = np.zeros(len(start) + 1, np.int64) if extra is None else extra.offsets
        events = _NO_EXTRA if extra is None else extra.events
        found = _newest(
            start,
            end,
            as_of_s,
            self.item_row,
            self.event_type,
            self.time_s,
            targets,
            offsets,
            events.item_row,
            events.event_type,
            events.time_s,
            events.is_target,
            event_count_max,
        )
        return HistoryBatch(*found, as_of_s)

    def batch(
        self,
        user_rows: Int32Array,
        as_of_s: Int64Array,
        event_count_max: int,
        extra: ExtraBatch | None = None,
    ) -> HistoryBatch:
        """The histories of B requests as of their own times.

        Args:
            user_rows: (B,) rows of the log; -1 for a user that it does not know.
            as_of_s: (B,) only logged events strictly before it are seen.
            event_count_max: how many of the newest target events, and of the newest others, are kept for each request,
                extra events included.
            extra: the events that came with the requests, or that are newer than the log.
        """
        known = np.maximum(user_rows, 0)
        start = self.offsets[known]
        end = np.where(user_rows >= 0, self.offsets[known + 1], start)
        return self.spans(start, end, as_of_s, event_count_max, extra)


@cache
def _targets(target_types: tuple[int, ...]) -> BoolArray:
    """(256,) whether each type code counts as the goal; not to be written."""
    table = np.zeros(256, dtype=np.bool_)
    table[list(target_types)] = True
    return table


_NO_EXTRA = ExtraEvents(np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.bool_))


@kernel
def _newest(
    start: Int64Array,
    end: Int64Array,
    as_of_s: Int64Array,
    item_row: Int32Array,
    event_type: UInt8Array,
    time_s: Int64Array,
    counts_as_target: BoolArray,
    extra_offsets: Int64Array,
    extra_row: Int32Array,
    extra_type: UInt8Array,
    extra_time_s: Int64Array,
    extra_is_target: BoolArray,
    event_count_max: int,
) -> tuple[Int64Array, Int32Array, UInt8Array, Int64Array, BoolArray]:
    """For each request its logged events before `as_of_s` and its extra ones, by time, the newest of each kind.

    Logged events stand before extra ones of the same second. Walks from the newest event back, and writes from the
    end of the room that a request could need at most.
    """
    request_count = len(start)
    room = len(extra_row)
    for request in range(request_count):
        room += end[request] - start[request]
    offsets = np.zeros(request_count + 1, np.int64)
    rows, kinds = np.empty(room, np.int32), np.empty(room, np.uint8)
    times, targets = np.empty(room, np.int64), np.empty(room, np.bool_)
    filled = 0
    for request in range(request_count):
        first_extra, logged = extra_offsets[request], start[request]
        extra_count = extra_offsets[request + 1] - first_extra
        order = np.argsort(extra_time_s[first_extra : first_extra + extra_count], kind="mergesort")
        place = logged + np.searchsorted(time_s[logged : end[request]], as_of_s[request]) - 1
        waiting = extra_count - 1
        top = filled + (place - logged + 1) + extra_count
        at, target_count, other_count = top, 0, 0
        while place >= logged or waiting >= 0:
            takes_extra = waiting >= 0 and (
                place < logged or extra_time_s[first_extra + order[waiting]] >= time_s[place]
            )
            if takes_extra:
                index = first_extra + order[waiting]
                is_target = extra_is_target[index]
                waiting -= 1
            else:
                index = place
                is_target = counts_as_target[event_type[index]]
                place -= 1
            if is_target:
                target_count += 1
                if target_count > event_count_max:
                    continue
            else:
                other_count += 1
                if other_count > event_count_max:
                    continue
            at -= 1
            targets[at] = is_target
            if takes_extra:
                rows[at], kinds[at], times[at] = extra_row[index], extra_type[index], extra_time_s[index]
            else:
                rows[at], kinds[at], times[at] = item_row[index], event_type[index], time_s[index]
        if at > filled:  # some were left out: close the gap
            for source in range(at, top):
                to = filled + source - at
                rows[to], kinds[to], times[to] = rows[source], kinds[source], times[source]
                targets[to] = targets[source]
        filled += top - at
        offsets[request + 1] = filled
    return offsets, rows[:filled], kinds[:filled], times[:filled], targets[:filled]
