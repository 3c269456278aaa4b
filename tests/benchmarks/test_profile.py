"""The profile: which stage a stack belongs to, and how samples become CPU time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.profile import Profile, Thread, attribute, read_samples, table
from tests.benchmarks.profile_stages import STAGES, UNKNOWN, stage_of_stack, stage_of_thread

ENGINE = "thread (7): engine;Thread.run (threading.py:982);MicroBatcher._run (server/batching.py:188)"
SEARCH = f"{ENGINE};Engine.answer (server/engine.py:74);FaissSearcher.search (index/faiss_searcher.py:50)"
ROOMS = ("server", "towers", "index")


def test_a_stack_belongs_to_the_innermost_frame_that_is_known() -> None:
    frames = ["server/batching.py:run", "server/engine.py:answer", "index/faiss_searcher.py:search", "elsewhere.py:f"]
    assert stage_of_stack(frames) == "retrieve: nearest items"
    assert stage_of_stack(frames[:1]) == "batching"
    assert stage_of_stack(["elsewhere.py:f"]) == UNKNOWN


def test_every_file_that_a_stage_names_is_there() -> None:
    root = Path(__file__).parents[2]
    ours = [prefix for _, prefixes in STAGES for prefix in prefixes if prefix.startswith(ROOMS)]
    assert ours
    assert [prefix for prefix in ours if not list(root.glob(f"{prefix}*"))] == []


def test_time_that_a_thread_waits_is_no_stage_s() -> None:
    samples = read_samples(
        [
            f"{ENGINE};PyThread_acquire_lock_timed (libpython3.11.so.1.0);0x7f1 (libc.so.6) 60",
            f"{SEARCH};faiss::search (libfaiss.so) 30",
            f"{ENGINE} 10",
            "thread (8): metrics;serve_forever (socketserver.py:233);poll (libc.so.6) 100",
        ]
    )
    assert dict(samples[7]) == {"retrieve: nearest items": 30, "batching": 10}
    assert samples[8].total() == 100


def test_samples_divide_the_cpu_time_of_their_thread() -> None:
    samples = read_samples([f"{SEARCH} 30", f"{ENGINE} 10"])
    threads = {7: Thread("python", 2.0), 9: Thread("grpc-native-io", 0.5), 10: Thread("stranger", 0.25)}
    found = attribute(samples, threads)
    assert found == pytest.approx(
        {"retrieve: nearest items": 1.5, "batching": 0.5, stage_of_thread("grpc-native-io"): 0.5, UNKNOWN: 0.25}
    )
    profile = Profile(found, request_count=1_000)
    assert profile.attributed == pytest.approx(2.5 / 2.75)
    assert "| retrieve: nearest items | 1,500.0 | 54.5% |" in table("W0", {"engine": profile})
