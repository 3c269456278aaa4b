"""Sends a schedule's messages at their time and hears the acknowledgements, measured from when a message was due.

The loop is open: a server that is slow for a second makes everything due in that second late, and each message counts
its own delay. What is in flight is bounded; when the bound is reached the next message waits, and its latency says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from client.load.latency import LatencyHistogram
from client.replaying.schedule import Message
from server.connect.delivery import Delivery
from server.connect.message import Delivered

POLL_S = 0.1
STOP_GRACE_S = 10.0


@dataclass(slots=True)
class Progress:
    """Where a replay stands.

    Attributes:
        lag_s: by how much the newest message went out later than it was due.
        latency: of messages, from when they were due (without a schedule: sent) to their acknowledgement.
    """

    sent_events: int = 0
    acknowledged_events: int = 0
    written: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    refusal: str = ""
    simulated_s: int = 0
    lag_s: float = 0.0
    lag_s_max: float = 0.0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


class Player:
    """Plays messages to a server once."""

    def __init__(
        self,
        delivery: Delivery,
        on_progress: Callable[[Progress, str], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._delivery = delivery
        self._on_progress = on_progress
        self._clock = clock
        self._stopping = False
        self.progress = Progress()

    def stop(self) -> None:
        """Sends nothing more; may be called by a signal handler."""
        self._stopping = True

    def play(self, schedule: Iterable[Message]) -> None:
        """To the end of the schedule, or until `stop`, and until the acknowledgements are there.

        Raises DeliveryRefused.
        """
        begin_s = self._clock()
        progress = self.progress
        for message in schedule:
            due_at_s = None if message.due_s is None else begin_s + message.due_s
            self._wait_for_turn(due_at_s)
            if self._stopping:
                break
            now_s = self._clock()
            if due_at_s is not None:
                progress.lag_s = now_s - due_at_s
                progress.lag_s_max = max(progress.lag_s_max, progress.lag_s)
            self._delivery.send(message.events, (due_at_s or now_s, len(message.events)))
            progress.sent_events += len(message.events)
            progress.simulated_s = message.simulated_s
        give_up_at_s = self._clock() + STOP_GRACE_S
        while self._delivery.in_flight and not (self._stopping and self._clock() > give_up_at_s):
            self._poll(POLL_S)

    def _wait_for_turn(self, due_at_s: float | None) -> None:
        while not self._stopping:
            early_s = 0.0 if due_at_s is None else due_at_s - self._clock()
            if early_s <= 0 and not self._delivery.full:
                self._poll(0.0)
                return
            self._poll(POLL_S if early_s <= 0 else min(early_s, POLL_S))

    def _poll(self, timeout_s: float) -> None:
        for delivered in self._delivery.poll(timeout_s):
            self._hear(delivered)
        self._on_progress(self.progress, self._delivery.trouble)

    def _hear(self, delivered: Delivered) -> None:
        progress = self.progress
        since_s, event_count = delivered.tag
        progress.latency.record(self._clock() - since_s)
        progress.acknowledged_events += event_count
        progress.written += delivered.written_count
        progress.duplicates += delivered.duplicate_count
        for refused in delivered.refused:
            progress.refused[refused.reason] += 1
            progress.refusal = refused.detail
