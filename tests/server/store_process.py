"""A real Valkey server for tests: on a unix socket, with a directory of its own, ended and started as they like."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import valkey

from server.store.address import StoreAddress
from server.store.process import server_binary

PATIENCE_S = 20.0


class StoreProcess:
    """`start` and `stop` (a kill -9) as often as a test likes: the socket stays the same, and what was kept is there
    again. As a context manager it is started on entry and gone on exit."""

    def __init__(self, *options: str) -> None:
        # A socket's path has at most 107 characters, which pytest's own directories may exceed.
        self._directory = tempfile.TemporaryDirectory(prefix="twinrank-store-")
        self._options = options
        self._socket = Path(self._directory.name) / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.address = StoreAddress(f"unix://{self._socket}")
        self.client: Any = valkey.Valkey(unix_socket_path=str(self._socket))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        place = ["--port", "0", "--unixsocket", str(self._socket), "--dir", self._directory.name]
        quiet = ["--save", "", "--appendonly", "yes", "--loglevel", "warning", "--logfile", "valkey.log"]
        self._process = subprocess.Popen([str(server_binary()), *place, *quiet, *self._options])
        give_up_at_s = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert time.monotonic() < give_up_at_s, "the store never answered"
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.client.close()
        self.stop()
        self._directory.cleanup()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (valkey.exceptions.ConnectionError, valkey.exceptions.BusyLoadingError):
            return False
