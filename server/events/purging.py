"""PurgeUser: a person is removed from states and log at once, and from generations as they are pruned.

In this order, so that a purge that breaks off can be asked for again and then finds the rest: states are replaced by
empty ones that say so, the purge list is written, the log's entries are deleted, and last the notes of who the user
had been as a visitor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import events_pb2 as pb

from server.call import RequestIds
from server.config import ServerConfig
from server.errors import InvalidRequest, StoreIsOff, Violation
from server.events.batch import FORGET
from server.events.domain import PurgeReceipt
from server.events.log import read_entries
from server.events.log_entry import EntryInvalid, decode_ids
from server.events.purge_list import Purge, generations_holding, read_purges, write_purges
from server.events.writer import refusal_of
from server.fields import check_text
from server.state.keys import alias_key, log_key, shard, state_key
from server.store.address import StoreAddress
from server.store.connection import connect
from server.store.errors import translated

DELETED_AT_ONCE = 1_000
"""Entries of one XDEL."""
_LOGGER = structlog.stdlib.get_logger("twinrank.events")


def purge(connection: Any, root: Path, user_id: str, visitor_id: str) -> PurgeReceipt:
    """Removes a person. `root`: the directory of generations. Raises what the connection raises."""
    visitor_ids = {visitor_id} if visitor_id else set()
    if user_id:
        visitor_ids |= {member.decode() for member in connection.smembers(alias_key(user_id))}
    persons = [f"u:{user_id}"] if user_id else []
    persons += [f"v:{each}" for each in sorted(visitor_ids)]
    state_event_count, purged_ms = 0, 0.0
    for person in persons:
        count, purged_ms = connection.eval(FORGET.source, 1, state_key(person))
        state_event_count += count
    found = _find(connection, set(persons), purged_ms)
    before = {entry.person: entry.first_ms for entry in read_purges(connection)}
    purges = []
    for person in persons:
        firsts = [before.get(person, 0.0), *(_ms(ids[0]) for ids in (found.get(person),) if ids)]
        purges.append(Purge(person, float(purged_ms), min(filter(None, firsts), default=0.0)))
    write_purges(connection, purges)
    for person, positions in found.items():
        key = log_key(shard(person[2:]))
        for begin in range(0, len(positions), DELETED_AT_ONCE):
            connection.xdel(key, *positions[begin : begin + DELETED_AT_ONCE])
    if user_id:
        connection.delete(alias_key(user_id))
    return PurgeReceipt(
        purged_ms=float(purged_ms),
        log_event_count=sum(map(len, found.values())),
        state_event_count=state_event_count,
        visitor_ids=tuple(sorted(visitor_ids - {visitor_id})),
        generation_ids=tuple(generations_holding(root, purges)),
    )


class PurgeService:
    """PurgeUser without a transport, for the admin listener."""

    def __init__(self, config: ServerConfig, store: StoreAddress | None) -> None:
        self._store = store
        self._root = config.generations.root
        self._id_bytes_max = config.limits.id_bytes_max
        self._timeout_s = config.store.write_timeout_ms / 1000
        self._request_ids = RequestIds()

    async def purge_user(self, request: pb.PurgeUserRequest) -> pb.PurgeUserResponse:
        """The receipt. Asking again does no harm.

        Raises `InvalidRequest`, `StoreIsOff`, `StoreIsDown`, `StoreIsFull`.
        """
        violations: list[Violation] = []
        for name in ("request_id", "user_id", "visitor_id"):
            check_text(getattr(request, name), self._id_bytes_max, name, violations)
        if not request.user_id and not request.visitor_id:
            violations.append(Violation("user_id", "is empty, and so is visitor_id; one of them is needed"))
        if violations:
            raise InvalidRequest(violations)
        receipt = await asyncio.to_thread(self._purge, request.user_id, request.visitor_id)
        purged_at = Timestamp()
        purged_at.FromMilliseconds(int(receipt.purged_ms))
        return pb.PurgeUserResponse(
            request_id=self._request_ids.of(request.request_id),
            purged_at=purged_at,
            log_event_count=receipt.log_event_count,
            state_event_count=receipt.state_event_count,
            visitor_ids=receipt.visitor_ids,
            generation_ids=receipt.generation_ids,
        )

    def _purge(self, user_id: str, visitor_id: str) -> PurgeReceipt:
        if self._store is None:
            raise StoreIsOff
        connection: Any = connect(self._store, timeout_s=self._timeout_s)
        try:
            with translated():
                receipt = purge(connection, self._root, user_id, visitor_id)
        except Exception as error:
            raise refusal_of(error) from error
        finally:
            connection.close()
        _LOGGER.info(
            "person purged",
            log_event_count=receipt.log_event_count,
            state_event_count=receipt.state_event_count,
            generation_ids=receipt.generation_ids,
        )
        return receipt


def _find(connection: Any, persons: set[str], until_ms: float) -> dict[str, list[str]]:
    """Positions of each person's entries; a user's events are the user's, whatever visitor stands in them, too."""
    found: dict[str, list[str]] = {}
    for shard_number in _shards(persons):
        for position, entry in read_entries(connection, shard_number, 0, int(until_ms)):
            try:
                user_id, visitor_id = decode_ids(entry)
            except EntryInvalid:
                continue
            person = f"u:{user_id}" if user_id else f"v:{visitor_id}"
            if person in persons:
                found.setdefault(person, []).append(position)
    return found


def _shards(persons: Iterable[str]) -> list[int]:
    return sorted({shard(person[2:]) for person in persons})


def _ms(position: str) -> float:
    return float(position.partition("-")[0])
