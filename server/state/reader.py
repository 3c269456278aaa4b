"""Reads the states of a batch: one MGET on the thread that has the engine. Without a store the answer is degraded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog
from valkey import Valkey

from server.domain import Query
from server.state.known_purges import KnownPurges
from server.state.packed import StateInvalid, unpack
from server.state.recent import ShopperStates, WantedStates
from server.store.bulk_reader import BulkReader
from server.store.errors import StoreError, translated

SILENCE_S = 0.1
"""After a failure the store is left alone for so long, so that not every batch waits for its time limit."""

_LOGGER = structlog.stdlib.get_logger("twinrank.state")


class StateReader:
    """The recent states, for any thread; never raises for what the store does."""

    def __init__(self, connection: Valkey, purges: KnownPurges, clock: Callable[[], float] = time.monotonic) -> None:
        """`connection` has the time limit of one read; `purges` speak while it fails."""
        self._store = BulkReader(connection)
        self._purges = purges
        self._clock = clock
        self._silent_until_s = 0.0
        self._failing = False
        self.failure_count = 0

    def read(self, queries: Sequence[Query]) -> ShopperStates:
        """The states of B queries; a StateGap where they could not be had."""
        wanted = WantedStates.of(queries)
        if not wanted.keys:
            return ShopperStates.nothing(len(queries))
        if self._clock() < self._silent_until_s:
            return ShopperStates.missing(wanted.named(), self._purges.of(queries))
        try:
            with translated():
                values = self._store.get(wanted.keys)
            packed = unpack(values)
        except (StoreError, StateInvalid) as error:
            self._note_failure(error)
            return ShopperStates.missing(wanted.named(), self._purges.of(queries))
        if self._failing:
            self._failing = False
            _LOGGER.info("recent states can be read again")
        return wanted.found(packed)

    def _note_failure(self, error: Exception) -> None:
        self.failure_count += 1
        self._silent_until_s = self._clock() + SILENCE_S
        if not self._failing:
            self._failing = True
            _LOGGER.error("recent states cannot be read; answers are degraded", reason=str(error))
