"""Which code belongs to which stage of a request: the first line below whose prefix the innermost known frame has."""

from __future__ import annotations

STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("decode", ("server/decoding", "server/fields", "google/protobuf")),
    ("batching", ("server/batching",)),
    ("ids to rows and back", ("index/item_ids",)),
    ("state: histories", ("server/shoppers", "towers/features/histories")),
    ("user tower", ("towers/features/requests", "towers/models/served_user_tower", "towers/models/user_tower")),
    ("retrieve: nearest items", ("index/faiss_searcher", "index/exact", "index/searcher", "faiss/")),
    ("candidates: other sources, merge", ("towers/candidates",)),
    ("features of pairs", ("towers/features/purchases", "towers/features/pairs", "towers/ranking")),
    ("rank", ("towers/models/served_ranker", "towers/models/ranker")),
    ("lists: top, answers", ("towers/recommender", "server/engine", "server/domain", "server/stopwatch")),
    ("encode", ("server/encoding", "server/attribution")),
    ("metrics, logs", ("server/metrics", "server/logs", "prometheus_client/", "structlog/", "logging/")),
    ("front", ("server/front", "server/service", "server/call", "server/admission", "server/streaming")),
    ("front", ("server/connections", "server/lifecycle", "server/workers", "server/health", "asyncio/", "grpc/")),
    ("the benchmark itself", ("tests/benchmarks",)),
)
"""Stage, and prefixes of source files; prefixes of functions may stand there, too: `towers/recommender.py:top`."""

WAITS: tuple[tuple[str, str], ...] = (
    ("batching", "server/batching.py:MicroBatcher._pull"),
    ("front", "server/front_native.py:NativeFront._run"),
    ("front", "asyncio/runners.py:Runner.run"),
    ("front", "uvloop/"),
    ("front", "concurrent/futures/thread.py:_worker"),
    ("front", "threading.py:"),
    ("metrics, logs", "selectors.py:"),
    ("metrics, logs", "socketserver.py:"),
)
"""Where threads wait when that is their innermost frame. What a thread works there, in code that has no Python frames,
is what its CPU time has over what its other samples explain."""

TRANSPORT = "front: transport"
"""Threads without any Python frame: those of grpcio's core or of the native front, which read and write sockets."""
UNKNOWN = "not attributed"


def stage_of(frames: list[str]) -> tuple[str, bool]:
    """The stage of a stack, outermost frame first, each `file.py:function`; and whether it may be waiting."""
    if frames:
        for stage, prefix in WAITS:
            if frames[-1].startswith(prefix):
                return stage, True
    for frame in reversed(frames):
        for stage, prefixes in STAGES:
            if frame.startswith(prefixes):
                return stage, False
    return UNKNOWN, False
