"""The native front's echo: the contract's messages around a constant answer, taken and answered in bursts.

`python -m tests.benchmarks.native_echo --port …` is the server; it needs pygrpc-native.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import threading
from typing import Any

from twinrank.v1 import recommendation_pb2 as pb

from tests.benchmarks.other_servers import COUNT_METHOD, SERVICE, echo

BURST_SIZE_MAX = 64
PATIENCE_MS = 100
IO_THREADS = 1


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    native: Any = importlib.import_module("pygrpc_native")
    methods = [(f"/{SERVICE}/Recommend", False), (COUNT_METHOD, False)]
    front = native.NativeGrpcFront(f"127.0.0.1:{port}", methods, IO_THREADS, call_details=True)
    front.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    _answer_bursts(front, native.EVENT_CALL, stop)
    front.close()


def _answer_bursts(front: Any, call_event: int, stop: threading.Event) -> None:
    answer, count = echo(), 0
    while not stop.is_set():
        for kind, call_id, method_number, raw, *_ in front.recv_batch_details(BURST_SIZE_MAX, PATIENCE_MS) or ():
            if kind != call_event:
                continue
            if method_number == 1:
                front.respond(call_id, str(count).encode())
                continue
            front.respond(call_id, answer(pb.RecommendRequest.FromString(raw)).SerializeToString())
            count += 1


if __name__ == "__main__":
    main()
