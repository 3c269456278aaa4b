"""What the forkserver imports once for all workers: everything that serving needs, except grpc.

Workers are forked from the process that has imported this, so they share its pages and start in a fraction of the
time. grpc starts threads and takes locks that do not survive a fork, so each worker imports it for itself, afterwards.
Nothing here computes: a thread pool that has worked (OpenMP, polars) does not survive a fork either.
"""

from __future__ import annotations

import gc
import signal
import sys

import faiss  # noqa: F401
import numpy  # noqa: F401
import polars  # noqa: F401
import torch  # noqa: F401

import server.decoding
import server.encoding
import server.engine
import server.generations
import server.golden
import server.logs
import server.metrics
import server.model
import server.service
import server.streaming  # noqa: F401
from server.workers.parent_death import signal_when_parent_ends

NEVER_BEFORE_FORK = "grpc"
"""The module that the forkserver must not import."""

assert NEVER_BEFORE_FORK not in sys.modules, "grpc was imported before the fork"
# The kernel ends the forkserver with its supervisor, so that its own end then reaches the workers in the same way.
signal_when_parent_ends(signal.SIGKILL)
# What is imported stays: the workers' collectors need not walk through it, and so do not copy its pages.
gc.collect()
gc.freeze()
