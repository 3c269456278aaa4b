"""A store that somebody else runs: asked twice a second, so that metrics and the log tell when it is down."""

from __future__ import annotations

import threading

import structlog

from server.store.address import StoreAddress
from server.store.connection import connect, read_facts, warnings_of
from server.store.errors import StoreError

ASK_INTERVAL_S = 0.5
ASKING_S = 1.0

_LOGGER = structlog.stdlib.get_logger("twinrank.store")


class ExternalStore:
    """Watches between `start` and `stop`; never starts or stops the store itself."""

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="store", daemon=True)
        self._run_id = ""
        self.is_up = False
        self.is_owner = True
        """Of several servers each trims the log; a second trim finds nothing to do."""
        self.failure = ""
        self.memory_bytes = 0
        self.log_bytes = 0
        self.disk_full = False
        self.restart_count = 0

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        client = connect(self._address, timeout_s=ASKING_S)
        while not self._stopping.is_set():
            try:
                facts = read_facts(client)
            except StoreError as error:
                if self.is_up or str(error) != self.failure:
                    _LOGGER.error("store down", reason=str(error), address=str(self._address))
                self.is_up, self.failure = False, str(error)
            else:
                if facts.run_id != self._run_id:
                    self.restart_count += bool(self._run_id)
                    self._run_id = facts.run_id
                    for warning in warnings_of(facts):
                        _LOGGER.warning("store unsafe", reason=warning)
                if not facts.loading and not self.is_up:
                    _LOGGER.info("store up", address=str(self._address), version=facts.version)
                self.is_up, self.failure = not facts.loading, "loading" if facts.loading else ""
                self.memory_bytes = facts.memory_bytes
            self._stopping.wait(ASK_INTERVAL_S)
        client.connection_pool.disconnect()
