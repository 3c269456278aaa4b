"""mosec (PyPI) around the plain pipeline with dynamic batches, and the HTTP load that it takes.

`python -m tests.benchmarks.mosec_path` is the server; its root is in the environment, since mosec reads the arguments.
Bodies are the contract's own messages, so that parsing and building cost the same as elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

from twinrank.v1 import recommendation_pb2 as pb

from tests.benchmarks.load import IN_FLIGHT, TIMEOUT_S
from tests.benchmarks.processes import Command, PathMissing, free_port

ROOT_VARIABLE = "BENCHMARK_GENERATIONS"
BATCH_SIZE_MAX, BATCH_WAIT_MS = 32, 5


def mosec(root: Path) -> Command:
    """The command of the server. Raises PathMissing when mosec is not installed."""
    try:
        import mosec  # noqa: F401
    except ImportError as error:
        raise PathMissing("mosec is not installed: pip install mosec") from error
    port = free_port()
    arguments = [sys.executable, "-m", "tests.benchmarks.mosec_path", "--port", str(port), "--address", "127.0.0.1"]

    def ok_count() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            text = page.read().decode()
        found = re.findall(r'^mosec_service_throughput\w*\{[^}]*code="200"[^}]*\} (\S+)', text, re.MULTILINE)
        return int(sum(map(float, found)))

    return Command("mosec", arguments, {ROOT_VARIABLE: str(root.absolute())}, f"127.0.0.1:{port}", ok_count)


class HttpUnary:
    """POST /inference over IN_FLIGHT connections that stay open, one request at a time on each."""

    requests_per_unit = 1
    in_flight = IN_FLIGHT

    def __init__(self, payloads: list[bytes]) -> None:
        self._requests = [
            b"POST /inference HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(payload), payload)
            for payload in payloads
        ]
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self, target: str) -> None:
        """Connects."""
        host, _, port = target.partition(":")
        self._target = host, int(port)
        await asyncio.sleep(0.2)
        for _ in range(self.in_flight):
            await self._free.put(await asyncio.open_connection(*self._target))

    async def send(self, number: int) -> bool:
        """One request over a connection that is free."""
        reader, writer = await self._free.get()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(self._requests[number % len(self._requests)])
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
            reader, writer = await asyncio.open_connection(*self._target)
            return False
        finally:
            await self._free.put((reader, writer))
        return head.startswith(b"HTTP/1.1 200") and len(body) > 0

    async def close(self) -> None:
        """Ends the connections."""
        while not self._free.empty():
            _, writer = self._free.get_nowait()
            writer.close()


def main() -> None:
    """The server."""
    from mosec import Server, Worker

    from tests.benchmarks.plain import PlainPipeline, to_message

    class Plain(Worker):
        def __init__(self) -> None:
            self._pipeline = PlainPipeline.open(Path(os.environ[ROOT_VARIABLE]))

        def deserialize(self, data: bytes) -> pb.RecommendRequest:
            return pb.RecommendRequest.FromString(data)

        def forward(self, data: list[pb.RecommendRequest]) -> list[pb.RecommendResponse]:
            times = [request.request_time.seconds + request.request_time.nanos * 1e-9 for request in data]
            answers = self._pipeline.answer([request.user_id for request in data], times, data[0].page_size)
            return [
                to_message(request.request_id, answer, self._pipeline.generation_id)
                for request, answer in zip(data, answers, strict=True)
            ]

        def serialize(self, data: Any) -> bytes:
            encoded: bytes = data.SerializeToString()
            return encoded

    server: Any = Server()  # type: ignore[no-untyped-call]
    server.append_worker(Plain, num=1, max_batch_size=BATCH_SIZE_MAX, max_wait_time=BATCH_WAIT_MS)
    server.run()


if __name__ == "__main__":
    main()
