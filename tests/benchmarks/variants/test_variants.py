"""The table of variants: what is compared with what, and that a variant which errs is seen to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks import synthetic_generation, workloads
from tests.benchmarks.variants import measure, recorded
from tests.benchmarks.variants.__main__ import table
from tests.benchmarks.variants.numba_variants import CompiledKernels
from tests.benchmarks.variants.recorded import Recorded
from tests.benchmarks.variants.torch_variants import BFloat16, Eager, EagerUnsplit, Float16Storage
from tests.benchmarks.variants.variant import Part, Variant
from tests.benchmarks.workloads import Workload

WORKLOAD = Workload("tiny", item_count=2_000, user_count=96, list_count=16, probe_count=8)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "BENCH_DIR", tmp_path_factory.mktemp("bench"))
        patch.setitem(workloads.SYNTHETIC, "tiny", WORKLOAD)
        patch.setattr(measure, "PASSES", 1)
        synthetic_generation.ensure_generation(WORKLOAD)
        file = tmp_path_factory.mktemp("recorded") / "tiny.npz"
        recorded.record("tiny", 64, file)
        yield recorded.read("tiny", file)


@pytest.mark.parametrize(
    ("variant", "part"),
    [
        (EagerUnsplit(), Part.RANKER),
        (Eager(), Part.RANKER),
        (Eager(), Part.TOWER),
        (CompiledKernels(), Part.RANKER),
        (CompiledKernels(), Part.TOWER),
        (Float16Storage(), Part.RANKER),
    ],
)
def test_what_loses_nothing_gives_the_recorded_lists(
    variant: Variant, part: Part, requests: Recorded, tmp_path: Path
) -> None:
    variant.prepare(part, requests, tmp_path)
    found = measure.load(variant, part, requests, tmp_path)
    assert found["score_error_max"] < 1e-3
    assert found["overlap_at_20"] >= 0.99
    assert found["cpu_us_32"] > 0


@pytest.mark.parametrize("part", list(Part))
def test_narrower_numbers_are_seen_to_err(part: Part, requests: Recorded, tmp_path: Path) -> None:
    exact = measure.load(Eager(), part, requests, tmp_path)
    narrow = measure.load(BFloat16(), part, requests, tmp_path)
    assert narrow["score_error_max"] > 10 * exact["score_error_max"]


def test_overlap_is_the_share_of_the_best_columns_that_both_have() -> None:
    theirs = np.linspace(1, 0, 40, dtype=np.float32)[None, :]
    ours: NDArray[np.float32] = theirs.copy()
    ours[0, :5], ours[0, 20:25] = theirs[0, 20:25], theirs[0, :5]
    assert measure.overlap(ours, theirs) == pytest.approx(15 / 20)
    assert measure.overlap(theirs, theirs) == 1


def test_a_variant_that_cannot_run_keeps_its_row_and_its_reason() -> None:
    rows = {"W1M": {"ranker": {"AOTInductor": {"reason": "no C++ compiler"}}}}
    assert "| AOTInductor | not here: no C++ compiler |" in table(rows, ["W1M"])
