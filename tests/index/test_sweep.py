"""The sweep of index kinds: what it measures, what lies on the frontier, what it chooses."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from index import sweep as module
from index import sweep_kinds
from index.commands.tune import _write
from index.config import IndexConfig, IndexKind
from index.sweep import Point, choose, frontier, sweep


def point(name: str, recall: float, batch_us: float, kind: IndexKind | None = IndexKind.IVF_SQ8) -> Point:
    return Point(name, kind, 1024, 8, recall, 2 * batch_us, batch_us, private_mb=0.0, build_s=0.0)


def unit_vectors(count: int) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(1).standard_normal((count, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_every_kind_is_measured_and_more_effort_finds_no_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED_S", 0.001)
    vectors = unit_vectors(2_500)
    points = list(sweep(vectors, vectors[:32], IndexConfig(recall_k=20, list_count=16), lambda _: None))
    names = {found.name for found in points}
    assert {"exact", "IVF,int8", "IVF,SQ8", "IVF,Flat", "HNSW,SQ8", "HNSW,Flat", "NSG"} < names
    assert {"PQ fast-scan, refine 2", "PQ fast-scan, refine 8"} < names
    flat = [found.recall for found in points if found.name == "IVF,Flat"]
    assert flat == sorted(flat)
    assert flat[-1] == pytest.approx(1.0)  # all 16 lists are looked into
    assert all(found.single_us > 0 for found in points)
    private_mb = {found.name: found.private_mb for found in points}
    mapped = ("IVF,int8", "IVF,SQ8", "IVF,Flat", "HNSW,SQ8", "HNSW,Flat")
    assert max(private_mb[name] for name in mapped) < 1


def test_only_what_is_asked_for_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED_S", 0.001)
    vectors = unit_vectors(500)
    said: list[str] = []
    points = list(sweep(vectors, vectors[:16], IndexConfig(recall_k=20, list_count=4), said.append, ["ivf,int8", "ns"]))
    assert {found.name for found in points} == {"exact", "IVF,int8", "NSG"}
    assert said == ["building IVF,int8", "building NSG24,Flat"]
    assert {found.list_count for found in points if found.name == "IVF,int8"} == {4}


def test_what_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_kinds, "NSG_ITEMS_MAX", 100)
    monkeypatch.setitem(sys.modules, "svs", None)  # as where it is not installed
    vectors, said = unit_vectors(500), list[str]()
    points = list(sweep(vectors, vectors[:16], IndexConfig(recall_k=20), said.append, ["NSG", "SVS"]))
    assert [found.name for found in points] == ["exact"]
    assert said[0].startswith("NSG left out: it begins with the exact neighbours of every item")
    assert said[1] == "SVS left out: Intel SVS is not installed; pip install scalable-vs"


@pytest.mark.skipif(find_spec("svs") is None, reason="Intel SVS is not installed")
def test_svs_is_measured_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED_S", 0.001)
    vectors = unit_vectors(2_500)
    points = list(sweep(vectors, vectors[:32], IndexConfig(recall_k=20), lambda _: None, ["SVS"]))[1:]
    assert {found.name for found in points} <= {"SVS,LVQ8", "SVS,float16"}
    assert [found.recall for found in points][-1] > 0.99
    assert points[0].private_mb > 0.1  # the index itself: nothing of it is mapped


def test_a_point_that_another_beats_in_both_is_not_on_the_frontier() -> None:
    slow, fast, best = point("slow", 0.90, 50), point("fast", 0.92, 20), point("best", 0.99, 60)
    assert frontier([slow, best, fast]) == [fast, best]


def test_the_choice_is_the_fastest_that_is_served_and_reaches_the_recall() -> None:
    exact, unserved = point("exact", 1.0, 100, IndexKind.EXACT), point("NSG", 0.99, 10, None)
    enough, little = point("ivf", 0.96, 40), point("ivf", 0.90, 20)
    assert choose([exact, unserved, enough, little], 0.95) is enough
    assert choose([little, unserved], 0.95) is None


def test_the_choice_is_written_and_the_rest_of_the_config_stays(tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text('# ours\n[shop]\nname = "s" # short\n\n[index]\nkind = "hnsw_sq8"\nsearch_effort = 64\n')
    _write(config, point("IVF,SQ8", 0.96, 40))
    assert config.read_text() == (
        '# ours\n[shop]\nname = "s" # short\n\n[index]\nkind = "ivf_sq8"\nlist_count = 1024\nprobe_count = 8\n'
    )
