"""Which code belongs to which stage of a request: the first line below whose prefix the innermost known frame has."""

from __future__ import annotations

STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("decode", ("server/decoding", "server/fields", "google/protobuf")),
    ("batching", ("server/batching",)),
    ("ids to rows and back", ("index/item_ids",)),
    ("state: histories", ("server/shoppers", "towers/features/histories")),
    ("state: the store's answer", ("server/state", "server/store", "valkey/")),
    ("user tower", ("towers/features/requests", "towers/models/served_user_tower", "towers/models/user_tower")),
    (
        "retrieve: nearest items",
        ("index/faiss_searcher", "index/exact", "index/searcher", "index/int8", "index/svs", "faiss/"),
    ),
    ("candidates: other sources, merge", ("towers/candidates",)),
    ("features of pairs", ("towers/features/purchases", "towers/features/pairs", "towers/ranking")),
    ("rank", ("towers/models/served_ranker", "towers/models/ranker")),
    ("lists: top, answers", ("towers/recommender", "server/engine", "server/domain", "server/stopwatch")),
    ("encode", ("server/encoding", "server/attribution", "server/wire")),
    ("metrics, logs", ("server/metrics", "server/logs", "prometheus_client/", "structlog/", "logging/")),
    ("front", ("server/front", "server/service", "server/call", "server/admission", "server/streaming")),
    ("front", ("server/connections", "server/lifecycle", "server/workers", "server/health", "asyncio/", "grpc/")),
    ("front", ("threading.py", "concurrent/")),
    ("the benchmark itself", ("tests/benchmarks", "in_process.py")),
)
"""Stage, and prefixes of source files; prefixes of functions may stand there, too: `towers/recommender.py:top`."""

WAITING_CALLS = (
    "PyThread_acquire_lock_timed",
    "lock_PyThread_acquire_lock",
    "take_gil",
    "pthread_cond_timedwait",
    "pthread_cond_wait",
    "epoll_wait",
    "epoll_pwait",
    "poll",
    "select",
    "clock_nanosleep",
    "syscall",
    "crossbeam_channel",
    "std6thread9functions4park",
)
"""A thread waits when one of these, or a function whose name holds it, is called below the innermost Python frame: for
work, for a socket, for the interpreter lock."""

THREADS = (
    ("front: transport", "grpc"),  # grpc-native-io, grpc_global_tim
    ("front: transport", "event_engine"),
    ("front: transport", "lifeguard"),
    ("front: transport", "python"),  # threads of grpcio's core that keep the name of the process
    ("libraries' own threads", "polars"),
    ("libraries' own threads", "tokio"),
    ("libraries' own threads", "jemalloc"),
    ("libraries' own threads", "async-executor"),
)
"""Threads that run no Python are known by the beginning of their name."""

UNKNOWN = "not attributed"


def is_waiting(native_calls: list[str]) -> bool:
    """Whether the native calls below the innermost Python frame wait."""
    return any(wait == call or (len(wait) > 8 and wait in call) for call in native_calls for wait in WAITING_CALLS)


def stage_of_stack(frames: list[str]) -> str:
    """The stage of a stack, outermost frame first, each `file:function`."""
    for frame in reversed(frames):
        for stage, prefixes in STAGES:
            if frame.startswith(prefixes):
                return stage
    return UNKNOWN


def stage_of_thread(name: str) -> str:
    """The stage of a thread that runs no Python."""
    return next((stage for stage, prefix in THREADS if name.startswith(prefix)), UNKNOWN)
