"""What is built for which size and switch, and that the search effort reaches the recall asked for."""

from __future__ import annotations

from functools import partial

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from index.build import IndexBuildError, build_searcher
from index.config import IndexConfig, IndexDevice, IndexKind, choose_list_count, resolve_kind


@pytest.fixture(scope="module")
def vectors() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16))
    vectors = centres[rng.integers(0, 40, 6000)] + 0.5 * rng.normal(size=(6000, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, np.float32)


def test_auto_is_exact_up_to_its_limit_and_ivf_above() -> None:
    config = IndexConfig()
    assert resolve_kind(config, 50_000) is IndexKind.INT8_EXACT
    assert resolve_kind(config, 50_001) is IndexKind.IVF_INT8
    assert resolve_kind(IndexConfig(kind=IndexKind.HNSW_FLAT), 10) is IndexKind.HNSW_FLAT


@pytest.mark.parametrize(
    ("item_count", "list_count"),
    [(0, 1), (100, 2), (6000, 128), (50_001, 1024), (1_000_000, 4096), (10_000_000, 16_384)],
)
def test_list_count_grows_with_the_root_of_the_size(item_count: int, list_count: int) -> None:
    assert choose_list_count(IndexConfig(), IndexKind.IVF_SQ8, item_count) == list_count


@pytest.mark.parametrize(("item_count", "list_count"), [(100, 2), (50_001, 1024), (1_000_000, 8192)])
def test_int8_lists_are_twice_as_many(item_count: int, list_count: int) -> None:
    assert choose_list_count(IndexConfig(), IndexKind.IVF_INT8, item_count) == list_count


def test_auto_above_its_limit_reaches_the_recall_with_part_of_the_lists(vectors: npt.NDArray[np.float32]) -> None:
    config = IndexConfig(exact_item_count_max=1000, recall_k=20, device=IndexDevice.CPU)
    searcher, report = build_searcher(vectors, config, tuning_queries=vectors[:200])
    assert (report.kind, report.device, report.list_count) == ("ivf_int8", "cpu", 128)
    assert report.recall >= 0.95
    assert report.probe_count is not None
    assert report.probe_count < 128
    assert (searcher.item_count, searcher.dimension) == (6000, 16)


def test_the_effort_grows_until_the_recall_is_reached(vectors: npt.NDArray[np.float32]) -> None:
    def effort(recall_min: float) -> int:
        config = IndexConfig(kind=IndexKind.IVF_FLAT, recall_k=50, recall_min=recall_min, device=IndexDevice.CPU)
        report = build_searcher(vectors, config)[1]
        assert report.recall >= recall_min
        assert report.probe_count is not None
        return report.probe_count

    assert effort(0.5) < effort(1.0)


def test_a_configured_effort_is_kept_and_its_recall_reported(vectors: npt.NDArray[np.float32]) -> None:
    config = IndexConfig(kind=IndexKind.IVF_FLAT, probe_count=1, recall_k=50, device=IndexDevice.CPU)
    report = build_searcher(vectors, config)[1]
    assert report.probe_count == 1
    assert 0.1 < report.recall < 0.95


def test_the_same_seed_builds_the_same_index(vectors: npt.NDArray[np.float32]) -> None:
    config = IndexConfig(kind=IndexKind.IVF_SQ8, probe_count=4, device=IndexDevice.CPU)
    first, second = (build_searcher(vectors, config)[0].search(vectors[:50], 20)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_gpu_without_a_gpu_is_refused(vectors: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    with pytest.raises(IndexBuildError, match="sees no GPU"):
        build_searcher(vectors, IndexConfig(kind=IndexKind.IVF_FLAT, device=IndexDevice.GPU))


@pytest.mark.parametrize("device", ["auto", "gpu"])
@pytest.mark.parametrize("kind", [IndexKind.IVF_INT8, IndexKind.IVF_SQ8, IndexKind.IVF_FLAT])
def test_with_a_gpu_the_index_goes_there_and_comes_back(
    vectors: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, device: str, kind: IndexKind
) -> None:
    """FAISS for the CPU has no such functions; stand-ins show that both directions are taken."""
    moves: list[str] = []

    def move(way: str, index: faiss.Index, ngpu: int = 1) -> faiss.Index:
        moves.append(way)
        return index

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", partial(move, "to"), raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", partial(move, "back"), raising=False)
    config = IndexConfig(kind=kind, device=IndexDevice(device), recall_k=10)
    searcher, report = build_searcher(vectors, config)
    assert (moves, report.device, searcher.item_count) == (["to", "back"], "gpu", 6000)
    assert report.recall >= 0.95


@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="this FAISS sees no GPU")
@pytest.mark.parametrize("kind", [IndexKind.IVF_INT8, IndexKind.IVF_SQ8, IndexKind.IVF_FLAT])
def test_a_real_gpu_builds_what_the_cpu_searches(vectors: npt.NDArray[np.float32], kind: IndexKind) -> None:
    searcher, report = build_searcher(vectors, IndexConfig(kind=kind, device=IndexDevice.GPU, recall_k=10))
    assert (report.device, searcher.item_count) == ("gpu", 6000)
    assert report.recall >= 0.95


def test_kinds_that_the_gpu_does_not_build_refuse_it(
    vectors: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    with pytest.raises(IndexBuildError, match="hnsw_flat is built on the CPU only"):
        build_searcher(vectors, IndexConfig(kind=IndexKind.HNSW_FLAT, device=IndexDevice.GPU))


def test_more_lists_than_items_are_refused(vectors: npt.NDArray[np.float32]) -> None:
    with pytest.raises(IndexBuildError, match="9 lists needs as many items, not 5"):
        build_searcher(vectors[:5], IndexConfig(kind=IndexKind.IVF_FLAT, list_count=9))


@pytest.mark.parametrize("wrong", [{"kind": "annoy"}, {"nlist": 5}, {"probe_count": 0}, {"recall_min": 1.5}])
def test_a_config_refuses_what_it_does_not_know(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IndexConfig.model_validate(wrong)
