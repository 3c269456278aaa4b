"""After its golden queries a server has every kernel that requests need: none waits for a compiler.

A kernel is compiled for each combination of types that it is called with, and whether an array may be written, or lies
without gaps, is part of its type. `python -m tests.server.test_warm_up ROOT GENERATION_ID` says what was compiled when.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.filters import Equals
from index.generation import open_generation
from server.engine import Engine
from server.model import load_engine
from tests.conftest import SmallGeneration
from tests.server.real_engine import NOW_S, PLACEMENTS, recommend
from tests.server.test_engine import some_of_everything
from tests.towers.every_kernel import every_kernel

Compiled = dict[str, list[str]]
"""For each kernel the types that it was compiled for."""


def compiled() -> Compiled:
    """As of now, in this process."""
    return {name: [str(signature) for signature in kernel.signatures] for name, kernel in every_kernel().items()}


def ask_everything(engine: Engine) -> None:
    """Every kind of query in batches of every size, alone, and with nobody and nothing known."""
    queries = some_of_everything()
    engine.answer(queries)
    for query in queries[:40]:
        engine.answer([query])
    engine.answer([recommend("", placement, request_time_s=NOW_S) for placement in PLACEMENTS])
    everything = [recommend("u01", "everything", exclude_item_ids=("packs-1",), page_size=100)]
    engine.answer(everything)
    shoes = Equals("category", "shoes")
    for placement in PLACEMENTS:
        filtered = [
            recommend(user_id, placement, filter=shoes, context_item_ids=("tents-1",)) for user_id in ("u01", "")
        ]
        engine.answer([*filtered, everything[0]])


def report(root: Path, generation_id: str) -> Iterator[tuple[str, Compiled]]:
    """What is compiled after loading, and after all kinds of requests."""
    engine = load_engine(open_generation(root, generation_id), PLACEMENTS)
    yield "loaded", compiled()
    ask_everything(engine)
    yield "asked", compiled()


@pytest.fixture(scope="module")
def told(small_generation: SmallGeneration) -> dict[str, Compiled]:
    """From a process of its own: this one may have compiled for other tests."""
    command = [sys.executable, "-m", "tests.server.test_warm_up", str(small_generation.root)]
    done = subprocess.run([*command, small_generation.generation_id], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    said: dict[str, Compiled] = json.loads(done.stdout)
    return said


def test_requests_compile_nothing(told: dict[str, Compiled]) -> None:
    assert told["asked"] == told["loaded"]


def test_kernels_that_numpy_calls_are_compiled_once(told: dict[str, Compiled]) -> None:
    """More would be time lost at every start. `_append` and `find_row` are called by kernels, with several types."""
    several = {name for name, signatures in told["asked"].items() if len(signatures) > 1}
    assert several <= {"towers.candidates._append", "towers.features.purchases.find_row"}


if __name__ == "__main__":
    print(json.dumps(dict(report(Path(sys.argv[1]), sys.argv[2]))))
