"""Kernels: what compilation keeps of a function's meaning, and what is kept of compilation from process to process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from index.mapped_tensors import open_tensors
from tests.towers.every_kernel import every_kernel
from towers.compiled import kernel, reordered_kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array

ROOT = Path(__file__).parents[2]


KERNELS = every_kernel()


def test_there_are_kernels() -> None:
    assert len(KERNELS) > 15


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_lets_other_threads_run_and_is_kept_on_disk(name: str) -> None:
    options = KERNELS[name].targetoptions
    assert options["nogil"]
    assert options["nopython"]
    assert not options.get("parallel")
    assert options["error_model"] == "numpy"
    assert KERNELS[name].stats.cache_path is not None


@kernel
def _wait_for(flag: Int64Array, looks_at: int, patience: int) -> bool:
    """Whether flag[0] was set before patience ended; counts its looks in flag[looks_at]."""
    for look in range(1, patience):
        if flag[0] != 0:
            return True
        flag[looks_at] = look  # for all that the compiler knows this may be flag[0], so that is read anew
    return False


def test_another_thread_runs_while_a_kernel_does() -> None:
    flag = np.zeros(2, np.int64)
    assert not _wait_for(flag, 1, 2)  # compiled
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(_wait_for(flag, 1, 5_000_000_000)))
    waiting.start()
    while flag[1] < 2 and waiting.is_alive():
        pass
    flag[0] = 1  # a kernel that held the interpreter's lock would end before this
    waiting.join()
    assert seen == [True]


@reordered_kernel
def _highest(values: FloatArray) -> tuple[float, float, bool]:
    highest, total, any_nan = np.float32(-np.inf), np.float32(0), False
    for place in range(len(values)):
        highest = max(highest, values[place])
        total += values[place]
        any_nan |= bool(np.isnan(values[place]))
    return float(highest), float(total), any_nan


def test_infinity_and_nan_keep_their_meaning_in_sums_of_any_order() -> None:
    nothing = np.zeros(0, np.float32)
    assert _highest(nothing) == (-np.inf, 0, False)
    below = np.full(33, -np.inf, np.float32)
    assert _highest(below) == (-np.inf, -np.inf, False)
    below[20] = -3
    assert _highest(below) == (-3, -np.inf, False)
    both = np.ones(33, np.float32)
    both[3], both[30] = np.inf, -np.inf
    highest, total, any_nan = _highest(both)
    assert (highest, any_nan) == (np.inf, False)
    assert np.isnan(total)
    both[3] = np.nan
    _, total, any_nan = _highest(both)
    assert any_nan
    assert np.isnan(total)


@kernel
def _in_order(values: FloatArray) -> np.float32:
    total = np.float32(0)
    for place in range(len(values)):
        total += values[place]
    return total


@reordered_kernel
def _in_any_order(values: FloatArray) -> np.float32:
    total = np.float32(0)
    for place in range(len(values)):
        total += values[place]
    return total


def test_a_kernel_sums_in_the_order_written_and_a_reordered_one_nearly_the_same() -> None:
    values = np.random.default_rng(1).normal(size=10_000).astype(np.float32) * np.float32(1e3)
    written = np.float32(0)
    for value in values:
        written += value
    assert _in_order(values) == written
    assert _in_any_order(values) == pytest.approx(values.astype(np.float64).sum(), abs=1)
    assert _in_any_order(values) != written  # it is another order, or reordered_kernel does nothing


@kernel
def _ratio(above: float, below: float) -> float:
    return above / below


def test_division_by_zero_is_numpy_s() -> None:
    assert _ratio(1.0, 0.0) == np.inf
    assert np.isnan(_ratio(0.0, 0.0))


@kernel
def _row_sums(values: FloatArray, rows: Int32Array) -> FloatArray:
    out = np.zeros(len(rows), np.float32)
    for place in range(len(rows)):
        for column in range(values.shape[1]):
            out[place] += values[rows[place], column]
    return out


def test_memory_mapped_arrays_are_read_where_they_lie(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    save_file({"values": values, "rows": np.array([3, 0], np.int32)}, tmp_path / "file.safetensors")
    mapped = open_tensors(tmp_path / "file.safetensors")
    assert not mapped["values"].flags.writeable
    assert _row_sums(mapped["values"], mapped["rows"]).tolist() == [30, 3]
    np.save(tmp_path / "values.npy", values)
    assert _row_sums(np.load(tmp_path / "values.npy", mmap_mode="r"), mapped["rows"]).tolist() == [30, 3]
    assert _row_sums(values, np.array([3, 0], np.int32)).tolist() == [30, 3]


_IMPORTS = ("from inner import FACTOR, inner",)


class Project:
    """Two modules of kernels in a folder of their own, `outer` calling what `inner` holds; run in new processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache_dir = folder, folder / "cache"
        self.write("inner", "FACTOR = 2.0", "@kernel", "def inner(x):", "    return x + 1.0")
        self.write("outer", *_IMPORTS, "@kernel", "def outer(x):", "    return FACTOR * inner(x)")

    def write(self, name: str, *lines: str) -> None:
        header = "from towers.compiled import kernel\n"
        (self.folder / f"{name}.py").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")

    def run(self, *options: str, **environment: str) -> tuple[float, int]:
        """outer(10), and how many kernels were compiled for it; warnings are errors unless options say otherwise."""
        program = textwrap.dedent(
            """
            import inner, outer
            value = outer.outer(10.0)
            kernels = (inner.inner, outer.outer)
            print(value, sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
            """
        )
        paths = os.pathsep.join([str(self.folder), str(ROOT)])
        settings = {"PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(self.cache_dir), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *(options or ("-W", "error")), "-c", program],
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        value, compiled = done.stdout.split()
        return float(value), int(compiled)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_second_process_compiles_nothing(project: Project) -> None:
    assert project.run() == (22, 2)
    assert project.run() == (22, 0)


def test_a_kernel_is_compiled_again_when_what_it_calls_changes(project: Project) -> None:
    assert project.run() == (22, 2)
    project.write("inner", "FACTOR = 2.0", "@kernel", "def inner(x):", "    return x + 2.0")
    assert project.run() == (24, 2)
    project.write("inner", "FACTOR = 3.0", "@kernel", "def inner(x):", "    return x + 2.0")
    assert project.run() == (36, 2)
    assert project.run() == (36, 0)
    project.write("outer", *_IMPORTS, "@kernel", "def outer(x):", "    return FACTOR - inner(x)")
    assert project.run() == (-9, 1)


def test_damaged_files_are_compiled_again_and_replaced(project: Project) -> None:
    project.run()
    for damage in (lambda _: b"", lambda _: b"no pickle at all", lambda content: content[:100]):
        kept = [path for path in project.cache_dir.rglob("*") if path.is_file()]
        assert len(kept) == 4  # an index and a function each
        for path in kept:
            path.write_bytes(damage(path.read_bytes()))
        assert project.run() == (22, 2)
    assert project.run() == (22, 0)


def test_where_nothing_can_be_kept_every_process_compiles_and_says_so(project: Project) -> None:
    nowhere = {"NUMBA_CACHE_DIR": "/dev/null/nowhere", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    for _ in range(2):
        value, _ = project.run("-W", "default", **nowhere)
        assert value == 22
        assert project.said.count("NUMBA_CACHE_DIR") == 1


def test_a_place_that_vanishes_fails_no_call(project: Project) -> None:
    """The disk is full, or the folder was taken away, after the kernels were imported."""
    project.write(
        "outer",
        "import pathlib, shutil",
        *_IMPORTS,
        "@kernel",
        "def outer(x):",
        "    return FACTOR * inner(x)",
        f"shutil.rmtree({str(project.cache_dir)!r})",
        f"pathlib.Path({str(project.cache_dir)!r}).write_text('in the way')",
    )
    value, _ = project.run("-W", "default")
    assert value == 22
    assert "not kept" in project.said
