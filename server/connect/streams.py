"""A Valkey stream as a source: a consumer group, entries acknowledged to it after the server has acknowledged them.

What this consumer had read and not acknowledged before it was killed comes first; what a consumer that is gone has
left pending is claimed after a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import valkey

from server.connect.errors import BadRow, SourceUnusable
from server.connect.files import json_row
from server.connect.record import Batch, Record, event_id_of

CONNECT_TIMEOUT_S = 5.0
RETRY_S = 1.0
CLAIM_INTERVAL_S = 5.0
TIMESTAMP_FIELD = "$timestamp"

AWAY = (valkey.exceptions.ConnectionError, valkey.exceptions.TimeoutError, valkey.exceptions.BusyLoadingError)


class StreamSource:
    """One consumer of a group of one stream. Raises SourceUnusable.

    json_field: the entries' field that holds a JSON object; without it the fields themselves are the row.
    claim_idle_ms: entries that another consumer has had pending for so long are taken over.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        group: str,
        consumer: str,
        *,
        json_field: str | None = None,
        claim_idle_ms: int = 60_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._group, self._consumer = stream, group, consumer
        self._json_field = json_field.encode() if json_field else None
        self._claim_idle_ms = claim_idle_ms
        self._clock = clock
        self._own_after = "0"  # of this consumer's own pending entries; empty when all were read
        self._claim_at_s = clock()
        self._claim_from = "0-0"
        self._retry_at_s = 0.0
        self.trouble = ""
        try:
            self._valkey: Any = valkey.Valkey.from_url(
                url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=CONNECT_TIMEOUT_S, decode_responses=False
            )
            self._make_group()
        except (valkey.exceptions.ValkeyError, ValueError) as error:
            raise SourceUnusable(f"the stream {stream} cannot be read: {error}") from error

    @property
    def ended(self) -> bool:
        """A stream never ends."""
        return False

    def read(self, count_max: int, timeout_s: float, /) -> Batch | None:
        """Own pending entries, then those of consumers that are gone, then new ones."""
        if self._clock() < self._retry_at_s:
            time.sleep(min(timeout_s, self._retry_at_s - self._clock()))
            return None
        try:
            entries = self._read(count_max, max(1, round(timeout_s * 1000)))
            self.trouble = ""
        except AWAY as error:
            # Entries that were on their way to us are pending now: begin with them again.
            self._retry_at_s, self._own_after = self._clock() + RETRY_S, "0"
            self.trouble = f"the stream's server is away: {error}"
            return None
        except valkey.exceptions.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise SourceUnusable(f"the stream {self._stream} cannot be read: {error}") from error
            self._make_group()
            return None
        records = [self._record(entry_id, fields) for entry_id, fields in entries]
        return Batch(records, [entry_id for entry_id, _ in entries]) if records else None

    def commit(self, positions: Sequence[Any]) -> None:
        """Acknowledges the entries to the group."""
        ids = [entry_id for position in positions for entry_id in position]
        try:
            self._valkey.xack(self._stream, self._group, *ids)
        except AWAY as error:
            # Not acknowledged is delivered again, and known by its id.
            self._own_after, self.trouble = "0", f"the stream's server is away: {error}"

    def close(self) -> None:
        """Closes the connection; the consumer stays in the group, with what it has pending."""
        self._valkey.close()

    def _make_group(self) -> None:
        try:
            self._valkey.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except valkey.exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _read(self, count_max: int, block_ms: int) -> list[tuple[bytes, Any]]:
        if self._own_after:
            own = self._group_read(self._own_after, count_max, None)
            self._own_after = own[-1][0].decode() if own else ""
            if own:
                return own
        if self._clock() >= self._claim_at_s:
            claimed = self._claim(count_max)
            if claimed:
                return claimed
        return self._group_read(">", count_max, block_ms)

    def _group_read(self, after: str, count_max: int, block_ms: int | None) -> list[tuple[bytes, Any]]:
        answer = self._valkey.xreadgroup(
            self._group, self._consumer, {self._stream: after}, count=count_max, block=block_ms
        )
        return [entry for _, entries in answer or () for entry in entries]

    def _claim(self, count_max: int) -> list[tuple[bytes, Any]]:
        answer = self._valkey.xautoclaim(
            self._stream, self._group, self._consumer, self._claim_idle_ms, start_id=self._claim_from, count=count_max
        )
        cursor, entries = answer[0], answer[1]
        self._claim_from = cursor.decode()
        if self._claim_from == "0-0":
            self._claim_at_s = self._clock() + min(CLAIM_INTERVAL_S, self._claim_idle_ms / 1000)
        return [entry for entry in entries if entry[0] is not None]

    def _record(self, entry_id: bytes, fields: Any) -> Record:
        identity = entry_id.decode()
        row = self._row(fields)
        arrived_ms = int(identity.partition("-")[0])
        if isinstance(row, dict):
            row = {TIMESTAMP_FIELD: arrived_ms, **row}
        return Record(
            f"{self._stream}@{identity}", event_id_of("stream", self._stream, identity), row, fields, arrived_ms
        )

    def _row(self, fields: Any) -> dict[str, Any] | BadRow:
        if not fields:
            return BadRow("deleted", "the entry was deleted from the stream before it was delivered")
        if self._json_field is not None:
            value = fields.get(self._json_field)
            if value is None:
                return BadRow("empty", f"the entry has no field {self._json_field.decode()!r}")
            return json_row(value)
        try:
            return {name.decode(): value.decode() for name, value in fields.items()}
        except UnicodeDecodeError as error:
            return BadRow("no_utf8", str(error))
