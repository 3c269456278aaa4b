"""How mosec (PyPI) is started around the plain pipeline, and the HTTP load that it takes."""

from __future__ import annotations

import asyncio
import re
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.loops import TIMEOUT_S, Transport
from tests.benchmarks.processes import Command, PathMissing, free_port

ROOT_VARIABLE = "BENCHMARK_GENERATIONS"
"""Where the server finds the root: mosec reads the arguments itself."""


def mosec(root: Path) -> Command:
    """The command of the server. Raises PathMissing when mosec is not installed."""
    try:
        import mosec  # noqa: F401
    except ImportError as error:
        raise PathMissing("mosec is not installed: pip install mosec") from error
    port = free_port()
    arguments = [sys.executable, "-m", "tests.benchmarks.mosec_server", "--port", str(port), "--address", "127.0.0.1"]

    def ok_count() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            text = page.read().decode()
        found = re.findall(r'^mosec_service_throughput\w*\{[^}]*code="200"[^}]*\} (\S+)', text, re.MULTILINE)
        return int(sum(map(float, found)))

    return Command("mosec", arguments, {ROOT_VARIABLE: str(root.absolute())}, f"127.0.0.1:{port}", ok_count)


class HttpUnary(Transport):
    """POST /inference over as many connections as are in flight, which stay open, one request at a time on each."""

    def __init__(self, payloads: list[bytes], in_flight: int) -> None:
        self.in_flight = in_flight
        self._requests = [
            b"POST /inference HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(payload), payload)
            for payload in payloads
        ]
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._asking: set[asyncio.Task[bool]] = set()

    async def open(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = host, int(port)
        await asyncio.sleep(0.2)
        for _ in range(self.in_flight):
            await self._free.put(await asyncio.open_connection(*self._target))

    def start(self, number: int, done: Callable[[bool], None]) -> None:
        asking = asyncio.get_running_loop().create_task(self._ask(number))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        asking.add_done_callback(lambda ended: done(ended.result()))

    async def _ask(self, number: int) -> bool:
        """One request over a connection that is free."""
        reader, writer = await self._free.get()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(self._requests[number % len(self._requests)])
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.close()
            reader, writer = await asyncio.open_connection(*self._target)
            return False
        finally:
            await self._free.put((reader, writer))
        return head.startswith(b"HTTP/1.1 200") and len(body) > 0

    async def close(self) -> None:
        while not self._free.empty():
            _, writer = self._free.get_nowait()
            writer.close()
