"""What a source yields: one record for each row, with its place in the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import xxhash

from server.connect.errors import BadRow

EVENT_ID_BYTES_MAX = 128
"""What the contract promises for every id."""


def event_id_of(source: str, *place: object) -> str:
    """An id that follows from a row's place; a hash of it where it would be too long or not printable."""
    text = "/".join(map(str, (source, *place)))
    if text.isprintable() and len(text.encode("utf-8", "surrogatepass")) <= EVENT_ID_BYTES_MAX:
        return text
    return f"{source}/{xxhash.xxh3_128_hexdigest(text.encode('utf-8', 'surrogatepass'))}"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a source.

    Attributes:
        place: where it stands, for people: `topic[0]@17`, `orders.csv:12`.
        event_id: the same whenever the row is read again.
        row: its values by name, or why it could not be parsed.
        raw: the row as it came, for the quarantine.
        arrived_ms: when the source took it in (milliseconds of the epoch); the event's time when the row has none.
    """

    place: str
    event_id: str
    row: Mapping[str, Any] | BadRow
    raw: Any
    arrived_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records, and the position behind them in the source's own terms."""

    records: Sequence[Record]
    position: Any


class Source(Protocol):
    """Where rows come from. One thread uses it."""

    def read(self, count_max: int, timeout_s: float, /) -> Batch | None:
        """The next rows; None when nothing came in time."""

    def commit(self, positions: Sequence[Any]) -> None:
        """Remembers, durably, that everything up to these positions (of batches, in their order) is delivered."""

    @property
    def ended(self) -> bool:
        """Whether nothing will ever come again."""

    def close(self) -> None:
        """Lets go of connections and locks; commits nothing."""
