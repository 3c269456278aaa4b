"""Follows the CURRENT pointer: loads a new generation beside the running one, then swaps between two batches.

What does not load is refused by name and the reason kept; the running generation goes on serving, and the refused one
is not tried again until the pointer is written anew.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from index.generation import GenerationError, current_id
from index.generation.layout import CURRENT_NAME
from server.batching import Engine
from server.memory import give_back_free_memory
from server.niceness import give_way

BACKGROUND_NICENESS = 10
"""Of the thread that loads a generation beside the one that serves."""

_LOGGER = structlog.stdlib.get_logger("twinrank.generations")


class Loader(Protocol):
    """Verifies and loads one generation; raises whatever is wrong with it."""

    def __call__(self, root: Path, generation_id: str, /) -> Engine:
        """An engine that is ready to answer: verified, warmed up, its golden queries passed."""


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """What is served and what was last refused; empty strings where there is none. Times are epoch seconds."""

    serving_id: str = ""
    loaded_at_s: float = 0.0
    refused_id: str = ""
    refused_reason: str = ""
    refused_count: int = 0


class GenerationFollower:
    """Polls CURRENT on a thread of its own. `swap` is called there with each engine that loaded."""

    def __init__(self, root: Path, poll_interval_s: float, load: Loader, swap: Callable[[Engine], None]) -> None:
        self._root = root
        self._poll_interval_s = poll_interval_s
        self._load = load
        self._swap = swap
        self._seen: tuple[int, int, int] | None = None
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="generations", daemon=True)
        self.status = FollowerStatus()

    def start(self) -> None:
        """Starts to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a load under way is not waited for, since its result has no use any more."""
        self._stopping = True
        self._wake.set()

    def look_now(self) -> None:
        """Wakes the thread, so that a change of the pointer is seen at once."""
        self._wake.set()

    def look(self) -> None:
        """One look at the pointer, with all that follows from it. Safe from any thread."""
        with self._looking:
            signature = self._pointer_signature()
            if signature == self._seen:
                return
            self._seen = signature
            if signature is not None:
                self._follow()

    def fall_back(self, generation_id: str) -> None:
        """Serves the given generation for want of a better one, until CURRENT is written anew."""
        with self._looking:
            if not self.status.serving_id:
                self._take(generation_id)

    def _run(self) -> None:
        # What is loaded here is loaded while others are served: they come first.
        give_way(BACKGROUND_NICENESS)
        while not self._stopping:
            self._wake.wait(self._poll_interval_s)
            self._wake.clear()
            if self._stopping:
                return
            try:
                self.look()
            except Exception:
                _LOGGER.exception("the generations root could not be looked at", root=str(self._root))

    def _pointer_signature(self) -> tuple[int, int, int] | None:
        try:
            stat = os.stat(self._root / CURRENT_NAME)
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _follow(self) -> None:
        generation_id = ""
        try:
            generation_id = current_id(self._root) or ""
        except Exception as error:
            self._refuse(CURRENT_NAME, error)
            return
        if generation_id not in ("", self.status.serving_id):
            self._take(generation_id)

    def _take(self, generation_id: str) -> None:
        began_s = time.monotonic()
        try:
            engine = self._load(self._root, generation_id)
        except Exception as error:
            self._refuse(generation_id, error)
            return
        if self._stopping:
            return
        self._swap(engine)
        give_back_free_memory()
        self.status = replace(self.status, serving_id=generation_id, loaded_at_s=time.time())
        _LOGGER.info("generation loaded", generation_id=generation_id, seconds=round(time.monotonic() - began_s, 3))

    def _refuse(self, generation_id: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        self.status = replace(
            self.status,
            refused_id=generation_id,
            refused_reason=reason,
            refused_count=self.status.refused_count + 1,
        )
        _LOGGER.error(
            "generation refused",
            generation_id=generation_id,
            reason=reason,
            serving=self.status.serving_id,
            exc_info=None if isinstance(error, GenerationError) else error,
        )
