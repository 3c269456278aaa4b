"""The loop of a connector: read, map, deliver, and commit what is acknowledged.

A position is committed every half second, every 2,000 events, and before a single shopper would have more events
delivered and uncommitted than the server remembers ids of: so a connector that is killed at any moment and started
again repeats only events that the server still knows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twinrank.v1 import events_pb2 as pb

from server.connect.delivery import Delivery
from server.connect.errors import BadRow
from server.connect.mapper import Mapper
from server.connect.message import Delivered
from server.connect.quarantine import Quarantine
from server.connect.record import Batch, Record, Source

MESSAGE_EVENTS_MAX = 100
COMMIT_INTERVAL_S = 0.5
COMMIT_EVENTS_MAX = 2_000
SHOPPER_EVENTS_MAX = 200
"""Below `state.event_ids_max` (256 by default): so many newest ids of a shopper the server remembers."""
POLL_S = 0.1
STOP_GRACE_S = 10.0
"""How long a connector that is told to stop waits for the acknowledgements of what it has sent."""


@dataclass(slots=True)
class Tally:
    """What a connector has done: `read` = written + duplicates + quarantined + left out, when all is acknowledged."""

    read: int = 0
    written: int = 0
    duplicates: int = 0
    left_out: int = 0
    committed: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Sent:
    """The tag of a message: whence its events came."""

    position: Any
    records: list[Record]
    read_count: int
    shoppers: Counter[str]


class Pump:
    """Runs a source dry, or until it is told to stop."""

    def __init__(
        self,
        source: Source,
        mapper: Mapper,
        delivery: Delivery,
        quarantine: Quarantine,
        *,
        idle_exit_s: float | None = None,
        on_progress: Callable[[Pump], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._mapper = mapper
        self.delivery = delivery
        self._quarantine = quarantine
        self._idle_exit_s = idle_exit_s
        self._on_progress = on_progress
        self._clock = clock
        self.tally = Tally(quarantined=quarantine.by_reason)
        self._stopping = False
        self._acknowledged: list[_Sent] = []
        self._uncommitted = 0
        self._by_shopper: Counter[str] = Counter()
        self._committed_at_s = clock()

    def stop(self) -> None:
        """Ends the run soon, cleanly; may be called by a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Delivers until the source has ended, was idle for long enough, or `stop`.

        Raises ConnectError; what was acknowledged before is committed also then.
        """
        try:
            self._deliver()
            self._finish(None if not self._stopping else STOP_GRACE_S)
        finally:
            self._commit()
            self._on_progress(self)

    def flush(self, patience_s: float = STOP_GRACE_S) -> None:
        """Waits for what is in flight and commits; a source calls it before it gives partitions away."""
        self._finish(patience_s)
        self._commit()

    def _deliver(self) -> None:
        heard_at_s = self._clock()
        while not self._stopping:
            batch = None if self.delivery.full else self._source.read(MESSAGE_EVENTS_MAX, self._patience_s())
            if batch is not None:
                heard_at_s = self._clock()
                self._send(batch)
            elif self._source.ended or (self._idle_for(heard_at_s) and not self.delivery.in_flight):
                return
            self._poll(POLL_S if self.delivery.full else 0.0)
            if self._clock() - self._committed_at_s >= COMMIT_INTERVAL_S or self._uncommitted >= COMMIT_EVENTS_MAX:
                self._commit()
            self._on_progress(self)

    def _idle_for(self, heard_at_s: float) -> bool:
        return self._idle_exit_s is not None and self._clock() - heard_at_s >= self._idle_exit_s

    def _patience_s(self) -> float:
        # Acknowledgements are looked at between reads: with some on their way a read may not take long.
        return POLL_S / 10 if self.delivery.in_flight else POLL_S

    def _send(self, batch: Batch) -> None:
        events: list[pb.Event] = []
        records: list[Record] = []
        for record in batch.records:
            try:
                event = self._mapper.event(record)
            except BadRow as error:
                self._quarantine.add(record, error.reason, error.detail)
                continue
            if event is None:
                self.tally.left_out += 1
                continue
            events.append(event)
            records.append(record)
        self.tally.read += len(batch.records)
        shoppers = Counter(event.user_id or event.visitor_id for event in events)
        if any(self._by_shopper[shopper] + count > SHOPPER_EVENTS_MAX for shopper, count in shoppers.items()):
            self._finish(None)
            self._commit()  # what is left uncommitted after a stop is not sent, either
            if self._stopping:
                return
        self._by_shopper.update(shoppers)
        self.delivery.send(events, _Sent(batch.position, records, len(batch.records), shoppers))

    def _poll(self, timeout_s: float) -> None:
        for delivered in self.delivery.poll(timeout_s):
            self._take(delivered)

    def _take(self, delivered: Delivered) -> None:
        sent: _Sent = delivered.tag
        for refused in delivered.refused:
            self._quarantine.add(sent.records[refused.place], refused.reason, refused.detail)
        self.tally.written += delivered.written_count
        self.tally.duplicates += delivered.duplicate_count
        self._acknowledged.append(sent)
        self._uncommitted += sent.read_count

    def _finish(self, patience_s: float | None) -> None:
        """Polls until nothing is in flight; a stop bounds the wait."""
        give_up_at_s = None if patience_s is None else self._clock() + patience_s
        while self.delivery.in_flight:
            self._poll(POLL_S)
            self._on_progress(self)
            if self._stopping and give_up_at_s is None:
                give_up_at_s = self._clock() + STOP_GRACE_S
            if give_up_at_s is not None and self._clock() >= give_up_at_s:
                return

    def _commit(self) -> None:
        self._committed_at_s = self._clock()
        if not self._acknowledged:
            return
        self._quarantine.sync()
        self._source.commit([sent.position for sent in self._acknowledged])
        for sent in self._acknowledged:
            self._by_shopper -= sent.shoppers
        self.tally.committed += self._uncommitted
        self._acknowledged, self._uncommitted = [], 0
