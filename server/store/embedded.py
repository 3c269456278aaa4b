"""The embedded store as a part of the server: found or started, awaited, watched, started again, stopped last.

All of it happens on a thread of its own; the server never waits for it. Of several servers on one directory the first
owns the store and looks after it, the others are guests, which only use it; when the owner is gone, one of them takes
over.
"""

from __future__ import annotations

import shutil
import threading
import time
from enum import StrEnum
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import structlog

from server.config import Durability, StoreConfig
from server.store.address import StoreAddress
from server.store.errors import StoreError, StoreUnavailable, StoreUnfit, translated
from server.store.layout import Lock, StoreDirectory
from server.store.process import ASKING_S, StoreProcess, adopt, start_or_find
from server.store.syncing import Syncing

WATCH_INTERVAL_S = 0.05
ASK_INTERVAL_S = 0.5
"""How often a store that answers is asked again; its death is seen within WATCH_INTERVAL_S."""
STABLE_AFTER_S = 1.0
"""A store that was up and lived so long is started again at once; others wait longer each time."""
SOCKET_PATIENCE_S = 10.0
RESTART_DELAY_S_MAX = 10.0
DISK_RESERVE_MB = 256
"""With less free space the store is told to refuse: a full disk would be noticed only after the answer."""

_LOGGER = structlog.stdlib.get_logger("twinrank.store")


class StoreState(StrEnum):
    """What is known of the store."""

    STARTING = "starting"
    LOADING = "loading"
    UP = "up"
    DOWN = "down"


class EmbeddedStore:
    """Keeps a store up between `start` and `stop`. `address` never changes, whatever happens to the store."""

    def __init__(self, config: StoreConfig, directory: Path, *, disk_reserve_mb: int = DISK_RESERVE_MB) -> None:
        """Raises OSError: the directory cannot be made."""
        self._config = config
        self.directory = StoreDirectory(directory)
        self._disk_reserve_bytes = disk_reserve_mb * 1_000_000
        self._owner: Lock | None = None
        self._guest: Lock | None = None
        self._process: StoreProcess | None = None
        self._syncing: Syncing | None = None
        self._connected: Any = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="store", daemon=True)
        self._changed = threading.Condition()
        self._asked_s = self._answered_s = self._told_s = 0.0
        self._start_at_s = 0.0
        self._young_deaths = 0
        self.state = StoreState.STARTING
        self.restart_count = 0
        self.failure = ""
        """Why it is not up, when that is known."""
        self.disk_full = False
        self.memory_bytes = 0
        self.log_bytes = 0

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self.state is StoreState.UP

    @property
    def address(self) -> StoreAddress:
        """Where it answers, now or later."""
        return self.directory.address

    @property
    def is_owner(self) -> bool:
        """Whether this server looks after it."""
        return self._owner is not None

    @property
    def pid(self) -> int:
        """The store's process; 0 when there is none or it is not ours to know."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def until_up(self, timeout_s: float) -> None:
        """Waits until the store answers.

        Raises:
            StoreUnfit: it cannot start, and says why.
            StoreUnavailable: the time is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.state is StoreState.UP or self._young_deaths > 1, timeout_s)
        if self.state is StoreState.UP:
            return
        if self._young_deaths > 1:
            raise StoreUnfit(self.failure)
        raise StoreUnavailable(f"the store is {self.state} after {timeout_s:g} s: {self.failure or 'no answer'}")

    def stop(self) -> None:
        """Stops the store if it is ours and nobody else uses it; takes at most some 20 s. May be called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._connected is not None:
            self._connected.close()
        if self._guest is not None:
            self._guest.release()
            self._guest = None
        if self._owner is None:
            self._owner = self.directory.lock("owner")  # has the owner gone, and left the store to this guest?
            if self._owner is None:
                return
        self._leave()
        self._owner.release()
        self._owner = None
        # A guest that left meanwhile has seen the lock held, and relied on us.
        if self.directory.is_held("living") and not self.directory.is_held("guests"):
            self._owner = self.directory.lock("owner")
            if self._owner is not None:
                self._leave()
                self._owner.release()
                self._owner = None

    def _leave(self) -> None:
        if self.directory.is_held("guests"):
            _LOGGER.info("the store is left to another server", directory=str(self.directory.path))
            if self._process is not None:
                self._process.abandon()
        elif self.directory.is_held("living"):
            process = self._process or StoreProcess(self.directory, 0, None, 0)
            if not process.pid:
                self._try_to_adopt(process)
            process.end()
            _LOGGER.info("store stopped", directory=str(self.directory.path))
        elif self._process is not None:
            self._process.is_living()  # it was killed a moment ago: looking is what takes the child in
        if self._syncing is not None:
            self._syncing.stop()
            self._syncing = None
        self._set(StoreState.DOWN)

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except (OSError, StoreError) as error:
                self._back_off()
                self._fail(str(error))
            except Exception as error:  # the watch goes on whatever happens
                _LOGGER.exception("the watch over the store failed")
                self._back_off()
                self._fail(f"{type(error).__name__}: {error}")
            self._stopping.wait(WATCH_INTERVAL_S)

    def _look(self) -> None:
        if self._owner is None and not self._become_owner():
            self._ask()
            return
        if time.monotonic() < self._start_at_s:
            return
        if self._process is None:
            self._asked_s = 0.0
            self._answered_s = time.monotonic()
            self._process = start_or_find(self._config, self.directory)
            _LOGGER.info(
                "living store found" if self._process.adopted else "store started", directory=str(self.directory.path)
            )
        if not self._process.is_living():
            self._mourn(self._process)
            return
        self._ask()

    def _become_owner(self) -> bool:
        self._owner = self.directory.lock("owner")
        if self._owner is None:
            if self._guest is None:
                self._guest = self.directory.lock("guests", shared=True)
                _LOGGER.info("another server looks after the store", directory=str(self.directory.path))
            return False
        if self._guest is not None:
            _LOGGER.info("the store is taken over", directory=str(self.directory.path))
            self._guest.release()
            self._guest = None
        if self._config.durability is Durability.EVERY_SECOND:
            self._syncing = Syncing(self.directory)
        self._set(StoreState.STARTING)
        return True

    def _mourn(self, process: StoreProcess) -> None:
        """The store has ended unasked: another is started at once, unless they die young again and again."""
        was_up, self._process = self.state is StoreState.UP, None
        lived_s = time.monotonic() - process.started_s
        if was_up and lived_s >= STABLE_AFTER_S:
            self._young_deaths = 0
        self._back_off()
        if was_up:
            self._fail("the store's process has ended")
        else:
            self._fail(f"the store cannot start on {self.directory.data}: {process.complaint()}")
        self.restart_count += 1  # last: who sees it sees the store down

    def _back_off(self) -> None:
        self._young_deaths += 1
        delay_s = 0.0 if self._young_deaths == 1 else min(0.1 * 2.0 ** min(self._young_deaths, 20), RESTART_DELAY_S_MAX)
        self._start_at_s = time.monotonic() + delay_s

    def _ask(self) -> None:
        """Sets the state by what the store answers."""
        now_s = time.monotonic()
        if self.state is StoreState.UP and now_s - self._asked_s < ASK_INTERVAL_S:
            return
        self._asked_s = now_s
        try:
            if self.state is not StoreState.UP:
                self._greet()
            self._mind_the_disk()
        except StoreUnfit:
            raise
        except StoreError as error:
            self._silent(error)
            return
        self._answered_s = now_s
        if self.state is not StoreState.UP:
            waited_s = round(now_s - self._process.started_s, 3) if self._process is not None else 0.0
            _LOGGER.info("store up", address=str(self.address), pid=self.pid, seconds=waited_s)
        self.failure = ""
        self._set(StoreState.UP)

    def _greet(self) -> None:
        from server.store.connection import read_facts

        facts = read_facts(self._client())
        if facts.loading:
            self._answered_s = time.monotonic()
            self._loading(facts.loading_part)
            raise StoreUnavailable("the store loads its file")
        if self._process is not None:
            adopt(self._process, self._config, self.directory)
            self.disk_full = False

    def _mind_the_disk(self) -> None:
        with translated():
            self.memory_bytes = int(self._client().info("memory")["used_memory"])
            if self._process is None:
                return
            free_bytes = shutil.disk_usage(self.directory.path).free
            full = free_bytes < self._disk_reserve_bytes * (1.25 if self.disk_full else 1.0)
            if full != self.disk_full:
                _LOGGER.error("the store's disk is full" if full else "the store's disk has room again")
                self._client().config_set("maxmemory", 1 if full else self._config.memory_mb_max * 1_048_576)
                self.disk_full = full

    def _client(self) -> Any:
        from server.store.connection import connect  # takes its time to import, and the store is starting meanwhile

        if self._connected is None:
            self._connected = connect(self.address, timeout_s=ASKING_S)
        return self._connected

    def _loading(self, part: float) -> None:
        self._set(StoreState.LOADING)
        now_s = time.monotonic()
        started_s = self._process.started_s if self._process is not None else now_s
        if now_s - self._told_s > 5.0:
            self._told_s = now_s
            late = now_s - started_s > self._config.load_patience_s
            _LOGGER.log(40 if late else 20, "the store loads its file", done_percent=round(100 * part, 1), late=late)

    def _silent(self, error: StoreError) -> None:
        """It does not answer. While it has not been up there is patience; one that was up is degraded from now on."""
        silent_s = time.monotonic() - self._answered_s
        if self.state is StoreState.UP:
            self._fail(str(error))
        process = self._process
        if process is None:
            return
        if not self.directory.socket.exists() and process.pid and silent_s > SOCKET_PATIENCE_S:
            _LOGGER.error("the store's socket is gone; the store is started again", socket=str(self.directory.socket))
            process.signal(SIGTERM)
        elif silent_s > self._config.load_patience_s:
            _LOGGER.error("the store hangs; killed", pid=process.pid, silent_s=round(silent_s, 1))
            process.signal(SIGKILL)
            self._answered_s = time.monotonic()

    def _try_to_adopt(self, process: StoreProcess) -> None:
        try:
            adopt(process, self._config, self.directory)
        except StoreError as error:
            _LOGGER.warning("the store to stop does not answer", reason=str(error))

    def _fail(self, reason: str) -> None:
        if reason != self.failure:
            _LOGGER.error("store down", reason=reason)
        self.failure = reason
        self._set(StoreState.DOWN)

    def _set(self, state: StoreState) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()
