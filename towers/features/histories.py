"""What users did, as arrays: the log of all users, and the batch of histories that one computation sees.

Both are CSR: user (or request) `i` owns the events `offsets[i]:offsets[i + 1]`, oldest first. Training and serving
build the same `HistoryBatch` and hand it to the same feature code, so that features cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        as_of = np.repeat(self.as_of_s, np.diff(self.offsets))
        age_s: FloatArray = np.maximum(as_of - self.time_s, 0).astype(np.float32)
        return age_s / np.float32(86_400)

    def targets(self) -> HistoryBatch:
        """The same requests with the events of target types alone."""
        return self.keep(self.is_target)

    def keep(self, kept: BoolArray) -> HistoryBatch:
        """The same requests with the events where `kept` (E,) holds."""
        running = np.concatenate([[0], np.cumsum(kept)])
        return HistoryBatch(
            offsets=running[self.offsets],
            item_row=self.item_row[kept],
            event_type=self.event_type[kept],
            time_s=self.time_s[kept],
            is_target=self.is_target[kept],
            as_of_s=self.as_of_s,
        )

    def last_of_each_kind(self, event_count_max: int) -> HistoryBatch:
        """At most so many newest target events and so many newest others: many views never push a purchase out."""
        counts = np.diff(self.offsets)
        if counts.size == 0 or counts.max() <= event_count_max:
            return self
        kept = np.zeros(len(self.item_row), np.bool_)
        for kind in (self.is_target, ~self.is_target):
            running = np.concatenate([[0], np.cumsum(kind)])
            from_end = np.repeat(running[self.offsets[1:]], counts) - running[:-1]
            kept |= kind & (from_end <= event_count_max)
        return self.keep(kept)

    def last(self, event_count_max: int) -> HistoryBatch:
        """The same requests with at most their `event_count_max` newest events."""
        counts = np.diff(self.offsets)
        if counts.size == 0 or counts.max() <= event_count_max:
            return self
        from_end = np.repeat(self.offsets[1:], counts) - np.arange(len(self.item_row))
        return self.keep(from_end <= event_count_max)


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
        table = np.zeros(256, dtype=np.bool_)
        table[list(self.target_types)] = True
        return table[event_type]

    def spans(self, start: Int64Array, end: Int64Array, as_of_s: Int64Array) -> HistoryBatch:
        """The events `start[i]:end[i]` (B,) of the log as the history of request `i`."""
        counts = end - start
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        index = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], counts)
        event_type = self.event_type[index]
        return HistoryBatch(
            offsets, self.item_row[index], event_type, self.time_s[index], self.is_target(event_type), as_of_s
        )

    def batch(
        self,
        user_rows: Int32Array,
        as_of_s: Int64Array,
        event_count_max: int,
        extra: Sequence[ExtraEvents | None] | None = None,
    ) -> HistoryBatch:
        """The histories of B requests as of their own times.

        Args:
            user_rows: (B,) rows of the log; -1 for a user that it does not know.
            as_of_s: (B,) only logged events strictly before it are seen.
            event_count_max: how many of the newest target events, and of the newest others, are kept for each request,
                extra events included.
            extra: for each request the events that came with it, or None.
        """
        known = np.maximum(user_rows, 0)
        start = self.offsets[known]
        end = np.where(user_rows >= 0, self.offsets[known + 1], start)
        logged = self.spans(start, end, as_of_s)
        seen = logged.time_s < np.repeat(as_of_s, np.diff(logged.offsets))
        if not seen.all():
            logged = logged.keep(seen)
        if extra is not None and any(events is not None for events in extra):
            logged = _merge(logged, extra)
        return logged.last_of_each_kind(event_count_max)


def _merge(logged: HistoryBatch, extra: Sequence[ExtraEvents | None]) -> HistoryBatch:
    """Adds each request's extra events to its logged ones, in order of time; equal times keep logged ones first."""
    present = [(request, events) for request, events in enumerate(extra) if events is not None]
    request = np.concatenate(
        [logged.request_of_event, *(np.full(len(events.item_row), row, np.int64) for row, events in present)]
    )
    time_s = np.concatenate([logged.time_s, *(events.time_s for _, events in present)])
    order = np.lexsort((time_s, request))  # stable, so logged events stay before extra ones of the same second
    return HistoryBatch(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(request, minlength=len(logged)))]).astype(np.int64),
        item_row=np.concatenate([logged.item_row, *(events.item_row for _, events in present)])[order],
        event_type=np.concatenate([logged.event_type, *(events.event_type for _, events in present)])[order],
        time_s=time_s[order],
        is_target=np.concatenate([logged.is_target, *(events.is_target for _, events in present)])[order],
        as_of_s=logged.as_of_s,
    )
