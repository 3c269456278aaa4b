"""The store as an update reads it: the log up to a complete cut, who was purged, and the live catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from server.events.domain import LoggedEvent
from server.events.log import read_log
from server.events.purge_list import read_purges
from server.state.keys import ITEMS_KEY
from server.store.address import StoreAddress
from server.store.connection import connect
from server.store.errors import translated
from towers.updating.archive import EVENT_SCHEMA
from towers.updating.joining import Attributes

ITEMS_PER_ANSWER = 1_000


class StoreLog:
    """A store at an address; every method raises StoreError."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self._client: Any = connect(StoreAddress(url), timeout_s=timeout_s)

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    def cut_ms(self) -> int:
        """A position that no later event can come before: the last whole millisecond of the store's clock."""
        with translated():
            seconds, microseconds = self._client.time()
        return int(seconds) * 1_000 + int(microseconds) // 1_000 - 1

    def events(self, after_ms: int, until_ms: int) -> pl.DataFrame:
        """The log's events of (after_ms, until_ms], by EVENT_SCHEMA. Raises EntryInvalid, too."""
        with translated():
            rows = [_row(event) for event in read_log(self._client, after_ms, until_ms)]
        return pl.DataFrame(rows, schema=dict(EVENT_SCHEMA), orient="row")

    def purged(self) -> dict[str, float]:
        """When each person (`u:<user>`, `v:<visitor>`) was purged, milliseconds of the store's clock."""
        with translated():
            return {purge.person: purge.purged_ms for purge in read_purges(self._client)}

    def items(self, item_ids: Sequence[str]) -> Mapping[str, Attributes]:
        """The attributes of those of the items that the live catalogue has, deleted ones left out."""
        found: dict[str, Attributes] = {}
        for begin in range(0, len(item_ids), ITEMS_PER_ANSWER):
            asked = item_ids[begin : begin + ITEMS_PER_ANSWER]
            with translated():
                documents = self._client.hmget(ITEMS_KEY, list(asked))
            for item_id, document in zip(asked, documents, strict=True):
                parts: dict[str, Any] = json.loads(document) if document is not None else {"deleted": True}
                if not parts.get("deleted"):
                    found[item_id] = parts.get("attributes", {})
        return found


def _row(event: LoggedEvent) -> tuple[Any, ...]:
    """One row of EVENT_SCHEMA."""
    return (
        event.position_ms,
        event.user_id,
        event.visitor_id,
        event.signs_in,
        event.item_id,
        event.event_type,
        event.time_s,
        event.session_id,
        event.quantity,
        event.value,
        event.rating,
        event.list_position,
        event.dwell_s,
        json.dumps(dict(event.context)) if event.context else "",
    )
