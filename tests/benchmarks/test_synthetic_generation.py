"""The benchmarks' shop is served like any other, and the plain pipeline gives the engine's answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import synthetic_generation, workloads
from tests.benchmarks.in_process import ask_engine, ask_plain, open_engine
from tests.benchmarks.plain import PlainPipeline
from tests.benchmarks.synthetic_shop import AS_OF_S, HISTORY_EVENTS, make_shop
from tests.benchmarks.workloads import Workload

WORKLOAD = Workload("tiny", item_count=3_000, user_count=200, list_count=32, probe_count=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "BENCH_DIR", tmp_path_factory.mktemp("bench"))
        yield synthetic_generation.ensure_generation(WORKLOAD)


def test_the_server_loads_it_and_the_plain_pipeline_agrees(root: Path) -> None:
    users = [f"u{row:07d}" for row in range(32)]
    ours = ask_engine(open_engine(root), AS_OF_S)(users)
    theirs = ask_plain(PlainPipeline.open(root), AS_OF_S)(users)
    assert all(len(items) == 20 for items in ours)
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(ours, theirs, strict=True)]
    assert np.mean(shared) >= 0.99


def test_a_shop_is_the_same_for_the_same_seed() -> None:
    first, second = make_shop(2_000, 50), make_shop(2_000, 50)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.item_row, second.item_row)


def test_vectors_are_of_unit_length_and_histories_full_and_in_order() -> None:
    shop = make_shop(2_000, 50)
    np.testing.assert_allclose(np.linalg.norm(shop.vectors, axis=1), 1, atol=1e-5)
    assert shop.item_row.shape == (50 * HISTORY_EVENTS,)
    assert (np.diff(shop.time_s.reshape(50, HISTORY_EVENTS), axis=1) >= 0).all()
    assert shop.time_s.max() < AS_OF_S
