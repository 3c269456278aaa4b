"""What was sent and acknowledged, what the store holds afterwards, and the difference: nothing lost, nothing twice.

Each event has an item of its own, so that an item's hash in a state's records is the event, and a shopper has fewer
events than a state keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event.

    Attributes:
        item_hash: as records of a state have it; of no other event.
        state_keys: where it may be: the user's state, the visitor's, or, while somebody signs in, either.
    """

    event_id: str
    item_hash: int
    state_keys: tuple[str, ...]


class Ledger:
    """All events of a run, as their senders know them."""

    def __init__(self) -> None:
        self.sent: dict[str, SentEvent] = {}
        self.acknowledged_s: dict[str, float] = {}
        """When each was acknowledged first, by time.monotonic()."""

    def add(self, event: SentEvent) -> None:
        """Before it is sent for the first time."""
        if event.event_id in self.sent:
            raise ValueError(f"event {event.event_id} was added twice")
        self.sent[event.event_id] = event

    def acknowledge(self, event_ids: Iterable[str], at_s: float) -> None:
        """The server has said that it has them."""
        for event_id in event_ids:
            self.acknowledged_s.setdefault(event_id, at_s)

    @property
    def state_keys(self) -> set[str]:
        """Every state that an event may be in."""
        return {key for event in self.sent.values() for key in event.state_keys}


@dataclass(frozen=True)
class Kept:
    """What the store holds.

    Attributes:
        logged: event id → entries of the log.
        states: state key → item hash → positions of its records in milliseconds.
    """

    logged: Mapping[str, int]
    states: Mapping[str, Mapping[int, Sequence[float]]]


@dataclass(frozen=True)
class Difference:
    """Event ids, in the order in which they were sent.

    Attributes:
        lost: acknowledged, and missing in the log or in the state.
        doubled: more than once in the log or in the state, acknowledged or not.
        torn: not acknowledged, and in only one of the two.
        unacknowledged_kept: not acknowledged, and there: allowed, once.
        in_both: the same record in the visitor's and in the user's state: a sign-in that was interrupted, which the
            next event of the two, or this one sent again, brings to its end.
    """

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    torn: tuple[str, ...]
    unacknowledged_kept: tuple[str, ...]
    in_both: tuple[str, ...]


def compare(ledger: Ledger, kept: Kept, until_s: float = float("inf")) -> Difference:
    """Holds what is kept against what was acknowledged before `until_s`."""
    lost, doubled, torn, extra, in_both = [], [], [], [], []
    nothing: Mapping[int, Sequence[float]] = {}
    for event_id, event in ledger.sent.items():
        logged = kept.logged.get(event_id, 0)
        places = [found for key in event.state_keys if (found := kept.states.get(key, nothing).get(event.item_hash))]
        if logged > 1 or any(len(found) > 1 for found in places) or len({at for found in places for at in found}) > 1:
            doubled.append(event_id)
        elif len(places) > 1:
            in_both.append(event_id)
        recorded = bool(places)
        whole = logged > 0 and recorded
        if ledger.acknowledged_s.get(event_id, float("inf")) < until_s:
            if not whole:
                lost.append(event_id)
        elif whole:
            extra.append(event_id)
        elif logged or recorded:
            torn.append(event_id)
    return Difference(tuple(lost), tuple(doubled), tuple(torn), tuple(extra), tuple(in_both))
