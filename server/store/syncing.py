"""Durability `every_second`: brings the append-only file to disk again and again, from outside the store.

The kernel has every acknowledged write already (see `fsync_policy`), so a crash of any process loses nothing; this is
for power failures. A sync of a file takes along what another process has written to it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import structlog

from server.store.layout import StoreDirectory

SYNC_INTERVAL_S = 0.5
"""Often, so that each has little to write: the store's own writes may wait for it. This and the sync's own time are
what a power failure can take."""

_LOGGER = structlog.stdlib.get_logger("twinrank.store")


class Syncing:
    """A thread that syncs; nothing is lost but its promise when it ends."""

    def __init__(self, directory: StoreDirectory) -> None:
        self._directory = directory
        self._synced_bytes: dict[Path, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-sync", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Syncs once more and ends."""
        self._stopping.set()
        self._thread.join()
        self._sync()

    def _run(self) -> None:
        while not self._stopping.wait(SYNC_INTERVAL_S):
            self._sync()

    def _sync(self) -> None:
        try:
            files = data_files(self._directory)
            for path in files:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    size = os.fstat(descriptor).st_size
                    if self._synced_bytes.get(path) != size:
                        getattr(os, "fdatasync", os.fsync)(descriptor)
                        self._synced_bytes[path] = size
                finally:
                    os.close(descriptor)
            self._synced_bytes = {path: self._synced_bytes[path] for path in files}
        except FileNotFoundError:
            pass  # a rewrite has just replaced it; the new one is synced by the store and in a second again
        except OSError as error:
            _LOGGER.error("the store's file cannot be synced", reason=str(error))


def data_files(directory: StoreDirectory) -> list[Path]:
    """The files that make up the data, in order; none before the first start."""
    return [directory.data / line.split()[1] for line in manifest_lines(directory)]


def manifest_lines(directory: StoreDirectory) -> list[str]:
    """`file NAME seq NUMBER type b|i`, a line a file; those that only wait for their removal are left out."""
    try:
        lines = directory.manifest.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line.startswith("file ") and " type h" not in line]
