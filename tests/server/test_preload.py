"""What the forkserver imports: in a process of its own, since importing it is meant for none other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.workers.forkserver import ONE_THREAD

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads through /proc")

POLARS_THREADS = ("polars", "jemalloc")
"""It starts them at its import; they only tidy up, and a forked process does without."""


def after_preload(program: str, tmp_path: Path) -> Any:
    """What the program prints as JSON, once the preload is imported; modules of its own lie in `tmp_path`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r})\nimport json, os\n{program}"],
        capture_output=True,
        text=True,
        env={**os.environ, **ONE_THREAD},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_that_a_worker_needs_is_there_but_what_belongs_to_grpc(tmp_path: Path) -> None:
    program = """
import server.workers.preload
before = set(sys.modules)
others = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
threads = [open(f"/proc/self/task/{number}/comm").read().strip() for number in others]
import server.lifecycle
print(json.dumps([threads, sorted(set(sys.modules) - before)]))
"""
    threads, afterwards = after_preload(program, tmp_path)
    assert [name for name in threads if not name.startswith(POLARS_THREADS)] == []
    ours = [name for name in afterwards if name.startswith(("server.", "towers.", "index."))]
    assert ours == ["server.admin_service", "server.front_grpcio", "server.health", "server.lifecycle"]
    assert [name for name in afterwards if name.startswith(("torch", "numpy", "polars", "faiss"))] == []


def test_a_module_that_is_not_installed_is_left_out_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import not_installed_at_all")
    program = """
from server.workers.preload import preload
preload(["not_installed_at_all", "not_installed_either.part"], [])
try:
    preload(["broken"], [])
except ModuleNotFoundError as error:
    print(json.dumps(error.name))
"""
    assert after_preload(program, tmp_path) == "not_installed_at_all"


def test_what_is_to_be_warmed_is_warmed_once(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("calls = []\ndef warm():\n    calls.append(1)")
    program = """
from server.workers.preload import preload
preload([], ["kernels"])
import kernels
print(json.dumps(kernels.calls))
"""
    assert after_preload(program, tmp_path) == [1]
