"""Checked events on their way to the store: what the script `append.lua` takes, person by person.

Commands are packed here and not by the client library, which would take longer for them than all the checks
(docs/performance.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from server.config import StateConfig
from server.state.keys import SHARD_COUNT, log_key, shard, shard_prefix
from server.store.packing import argument

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The events of one request.

    Attributes:
        count: how many.
        persons: the arguments of each person's events, in the protocol of the store; a person is `u:<user_id>`, or
            `v:<visitor_id>` when no user is known.
        sign_ins: pairs of user_id and visitor_id that stood in one event.
    """

    count: int
    persons: dict[str, list[bytes]]
    sign_ins: frozenset[tuple[str, str]]


class Script:
    """One script of the store, known by its hash."""

    def __init__(self, name: str) -> None:
        self.source = (Path(__file__).parent.parent / "state" / name).read_bytes()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


APPEND = Script("append.lua")
MERGE = Script("merge.lua")
RELEASE = Script("release.lua")
FORGET = Script("forget.lua")


class AppendCommands:
    """Packs the commands that append events, under the limits of recent states."""

    _FIXED_ARGUMENTS = 9
    _ARGUMENTS_OF_EVENT = 4

    def __init__(self, state: StateConfig) -> None:
        limits = (state.event_ids_max, state.deeds_max, state.signals_max, state.idle_days * _DAY_MS)
        self.limits = tuple(str(limit).encode() for limit in limits)
        packed_limits = b"".join(map(argument, self.limits))
        self._logs = [argument(log_key(number).encode()) + packed_limits for number in range(SHARD_COUNT)]
        self._keys = [shard_prefix(number) for number in range(SHARD_COUNT)]
        self._script = b"\r\n" + argument(b"EVALSHA") + argument(APPEND.sha.encode()) + argument(b"2") + b"$"

    def pack(self, person: str, events: list[bytes]) -> bytes:
        """The command for one person's events."""
        number = shard(person[2:])
        key = (self._keys[number] + person).encode()
        return b"*%d%b%d\r\n%b\r\n%b%b" % (
            self._FIXED_ARGUMENTS + self._ARGUMENTS_OF_EVENT * len(events),
            self._script,
            len(key),
            key,
            self._logs[number],
            b"".join(events),
        )
