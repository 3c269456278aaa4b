"""Signing in: what a visitor did becomes the user's.

Every event with both ids asks, in the pipeline that writes it, whether the store still has something under the
visitor: the head of the visitor's state. Only then is the state merged into the user's; the visitor's keeps its event
ids for a day, so that what is sent again late is known. That the two are one person is noted in a set beside the user's
state, and not again for a while.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from valkey import exceptions as valkey_errors

from server.events.batch import MERGE, RELEASE, Script
from server.state.keys import alias_key, state_key
from server.state.packed import HEADER, holds_events
from server.store.packing import command

NOTED_S = 60.0
"""How long it is trusted that the store has noted a pair; a purge takes the note away."""
NOTED_MAX = 50_000
ATTEMPTS_MAX = 4
"""How often a visitor's state that goes on changing is merged in one call; the next event takes the rest."""

_HEADER = (b"0", str(HEADER.size - 1).encode())
"""Where a packed state says how many events it has. What has been taken over leaves its ids behind."""

Pair = tuple[str, str]
"""user_id and visitor_id."""


class SignInQuestions:
    """What one request's pairs ask of the store, and the replies."""

    def __init__(self, pairs: Iterable[Pair], noted: dict[Pair, float]) -> None:
        now_s = time.monotonic()
        self._noted = noted
        self._pairs = [(pair, noted.get(pair, 0.0) > now_s) for pair in pairs]

    def commands(self) -> list[bytes]:
        """As they are sent; `read` reads the replies to just these."""
        packed = []
        for (user_id, visitor_id), is_noted in self._pairs:
            packed.append(command(b"GETRANGE", state_key(f"v:{visitor_id}").encode(), *_HEADER))
            if not is_noted:
                packed.append(command(b"SADD", alias_key(user_id).encode(), visitor_id.encode()))
        return packed

    async def read(self, connection: Any) -> tuple[list[Pair], Exception | None]:
        """Pairs whose visitor has something to take over, and the last error among the replies."""
        found, failure = [], None
        for pair, is_noted in self._pairs:
            try:
                if holds_events(await connection.read_response()):
                    found.append(pair)
            except valkey_errors.ResponseError as error:
                failure = error
            if is_noted:
                continue
            try:
                await connection.read_response()
            except valkey_errors.ResponseError as error:
                failure = error
            else:
                self._noted[pair] = time.monotonic() + NOTED_S
        return found, failure


class SignIns:
    """Takes visitors' states over. `limits`: of recent states, as the scripts take them."""

    def __init__(self, limits: tuple[bytes, ...]) -> None:
        self._limits = limits
        self._noted: dict[Pair, float] = {}

    def questions(self, pairs: Iterable[Pair]) -> SignInQuestions:
        """What to ask with the events of a request."""
        if len(self._noted) > NOTED_MAX:
            self._noted.clear()
        return SignInQuestions(pairs, self._noted)

    async def take_over(self, connection: Any, pair: Pair) -> None:
        """Merges a visitor's state into the user's and ends it. Raises what the connection raises."""
        user_id, visitor_id = pair
        user_key, visitor_key = state_key(f"u:{user_id}").encode(), state_key(f"v:{visitor_id}").encode()
        for _ in range(ATTEMPTS_MAX):
            value = await ask(connection, b"GET", visitor_key)
            if not value or not holds_events(value):
                return
            await run_script(connection, MERGE, user_key, *self._limits, value)
            if await run_script(connection, RELEASE, visitor_key, value):
                return


async def ask(connection: Any, *words: bytes) -> Any:
    """One command and its reply."""
    await connection.send_packed_command(command(*words), check_health=False)
    return await connection.read_response()


async def run_script(connection: Any, script: Script, key: bytes, *arguments: bytes) -> Any:
    """One script on one key, which is sent to the store when it does not know it."""
    words = (script.sha.encode(), b"1", key, *arguments)
    try:
        return await ask(connection, b"EVALSHA", *words)
    except valkey_errors.NoScriptError:
        return await ask(connection, b"EVAL", script.source, *words[1:])
