"""The event log, read from the store: all shards, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import valkey

from server.events.domain import LoggedEvent
from server.events.log_entry import decode
from server.state.keys import SHARD_COUNT, log_key

PAGE_SIZE = 2_000
"""Entries of one answer of the store: about 200 kB."""


def read_log(connection: valkey.Valkey, after_ms: int, until_ms: int) -> Iterator[LoggedEvent]:
    """Events whose position lies after `after_ms` and not after `until_ms`; in order within a shard.

    The range is complete when `until_ms` lies before the store's own TIME. Raises what the connection raises, and
    `EntryInvalid`.
    """
    for shard_number in range(SHARD_COUNT):
        for position, entry in read_entries(connection, shard_number, after_ms, until_ms):
            yield decode(entry, position)


def read_entries(
    connection: valkey.Valkey, shard_number: int, after_ms: int, until_ms: int | None
) -> Iterator[tuple[str, bytes]]:
    """Positions and bytes of one shard's entries; `until_ms` None is up to the newest."""
    start, end = f"{after_ms + 1}-0", "+" if until_ms is None else str(until_ms)
    while True:
        page: Any = connection.xrange(log_key(shard_number), start, end, PAGE_SIZE)
        for position, fields in page:
            yield position.decode(), fields[b"e"]
        if len(page) < PAGE_SIZE:
            return
        start = f"({page[-1][0].decode()}"
