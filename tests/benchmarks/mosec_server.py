"""mosec (PyPI) around the plain pipeline with dynamic batches; `python -m tests.benchmarks.mosec_server`.

Bodies are the contract's own messages, so that parsing and building cost the same as elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mosec import Server, Worker
from twinrank.v1 import recommendation_pb2 as pb

from tests.benchmarks.mosec_path import ROOT_VARIABLE
from tests.benchmarks.plain import PlainPipeline, to_message

BATCH_SIZE_MAX, BATCH_WAIT_MS = 32, 5


class Plain(Worker):
    """One process that answers batches."""

    def __init__(self) -> None:
        self._pipeline = PlainPipeline.open(Path(os.environ[ROOT_VARIABLE]))

    def deserialize(self, data: bytes) -> Any:
        return pb.RecommendRequest.FromString(data)

    def forward(self, data: Any) -> Any:
        times = [request.request_time.seconds + request.request_time.nanos * 1e-9 for request in data]
        answers = self._pipeline.answer([request.user_id for request in data], times, data[0].page_size)
        return [
            to_message(request.request_id, answer, self._pipeline.generation_id)
            for request, answer in zip(data, answers, strict=True)
        ]

    def serialize(self, data: Any) -> bytes:
        encoded: bytes = data.SerializeToString()
        return encoded


def main() -> None:
    """The command."""
    server: Any = Server()  # type: ignore[no-untyped-call]
    server.append_worker(Plain, num=1, max_batch_size=BATCH_SIZE_MAX, max_wait_time=BATCH_WAIT_MS)
    server.run()


if __name__ == "__main__":
    main()
