"""What the forkserver imports once for all workers: everything that serving needs, except grpc.

Workers are forked from the process that has imported this, so they share its pages and start in a fraction of the
time. grpc starts threads and takes locks that do not survive a fork, so each worker imports it for itself, afterwards.
No thread pool that has worked (OpenMP, polars) survives a fork either: what is warmed up here computes on this thread.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterable
from importlib import import_module

from server.memory import fill_gaps_before_fork, give_back_free_memory
from server.workers.parent_death import signal_when_parent_ends

LIBRARIES = (
    "numpy",
    "torch",
    "faiss",
    "polars",
    "uvloop",
    "valkey",
    "google.protobuf.descriptor_pb2",
    "grpc_health.v1.health_pb2",
    "grpc_reflection.v1alpha.reflection_pb2",
    "twinrank.v1.admin_pb2",
    "twinrank.v1.catalog_pb2",
    "valkey.asyncio",
)
"""What costs most to import; where one is not installed, whoever needs it will say so."""
OURS = (
    "server.admin_token",
    "server.catalogue.desk",
    "server.catalogue.follower",
    "server.connections",
    "server.decoding",
    "server.encoding",
    "server.engine",
    "server.events.purging",
    "server.events.service",
    "server.events.streams",
    "server.generations",
    "server.golden",
    "server.loading",
    "server.logs",
    "server.metrics",
    "server.model",
    "server.service",
    "server.state.stateful_engine",
    "server.store.connection",
    "server.store.keeper",
    "server.streaming",
    "server.workers.examiner",
    "server.workers.worker",
)
"""Our own modules that serving imports, and that import no grpc."""
WARMED: tuple[str, ...] = ("index.int8_lists", "index.int8_exact", "server.rehearsal")
"""Modules with a function `warm`, called after the import: it compiles what the module has to compile, or loads it from
its cache, so that no worker does either. Code that a worker makes for itself is memory that it shares with nobody."""
NEVER_BEFORE_FORK = "grpc"
"""The module that the forkserver must not import."""


def preload(modules: Iterable[str], warmed: Iterable[str]) -> None:
    """Imports the modules, as far as they are installed, and has each of `warmed` get ready."""
    for name in modules:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
                raise
    for name in warmed:
        import_module(name).warm()


# The kernel ends the forkserver with its supervisor, so that its own end then reaches the workers in the same way.
signal_when_parent_ends(signal.SIGKILL)
gc.disable()  # imports make objects that stay; the collector would walk through them again and again
preload((*LIBRARIES, *OURS), WARMED)
assert NEVER_BEFORE_FORK not in sys.modules, "grpc was imported before the fork"
# What is imported stays: the workers' collectors need not walk through it, and so do not copy its pages.
gc.collect()
give_back_free_memory()
fill_gaps_before_fork()
gc.freeze()
gc.enable()
