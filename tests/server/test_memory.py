"""What processes need not keep to themselves: measured in processes of their own, by what the kernel says."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")

PRIVATE = """
import os, sys
def private_kb():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))
"""
FORKED = """
from server.memory import fill_gaps_before_fork
living = [bytes(60 + n % 400) for n in range(400_000)]
del living[::20]
if "fill" in sys.argv:
    fill_gaps_before_fork()
if os.fork() == 0:
    before = private_kb()
    made = [bytes(60 + n % 400) for n in range(15_000)]
    print(private_kb() - before, flush=True)
    os._exit(0)
os.wait()
"""
FREED = """
import numpy as np
from server.memory import give_back_free_memory
arrays = [np.ones(100_000, np.uint8) for _ in range(1_000)]
last = arrays.pop()
del arrays
before = private_kb()
give_back_free_memory()
print(before - private_kb(), flush=True)
"""


def printed_kb(program: str, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE + program, *arguments], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def test_a_forked_process_copies_few_pages_for_its_first_objects_when_the_gaps_are_filled() -> None:
    scattered, dense = printed_kb(FORKED), printed_kb(FORKED, "fill")
    assert dense < 6_000  # 15,000 objects of 290 bytes
    assert scattered > 4 * dense


def test_freed_memory_goes_back_to_the_kernel() -> None:
    assert printed_kb(FREED) > 80_000  # of 100 MB, freed below an array that lives
