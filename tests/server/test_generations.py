"""Following CURRENT: swaps under load, refusals, and no second try at what was refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from twinrank.v1 import recommendation_pb2 as pb

from index.generation import GenerationError, set_current
from server.batching import Engine
from server.generations import GenerationFollower
from tests.server.conftest import Running, publish
from tests.server.fake_engine import FakeEngine, load_fake
from tests.server.waiting import until


async def test_a_publication_under_load_fails_no_request(running: Running) -> None:
    first_id = running.engine.generation_id
    seen: list[str] = []
    done = False

    async def ask_on_and_on() -> None:
        while not done:
            response = await running.stub.Recommend(pb.RecommendRequest(), timeout=10)
            seen.append(response.generation_id)

    callers = [asyncio.ensure_future(ask_on_and_on()) for _ in range(8)]
    await until(lambda: first_id in seen)
    second_id = publish(running.root, second=True)
    set_current(running.root, second_id)
    await until(lambda: second_id in seen)
    done = True
    await asyncio.gather(*callers)
    assert set(seen) == {first_id, second_id}


async def test_a_refused_generation_leaves_the_old_one_serving_and_is_named(running: Running) -> None:
    good_id = running.engine.generation_id
    bad_id = publish(running.root, refuse="dimension 32, expected 64")
    set_current(running.root, bad_id)
    follower = running.server.follower
    await until(lambda: follower.status.refused_id)
    assert follower.status.refused_id == bad_id
    assert "dimension 32, expected 64" in follower.status.refused_reason
    assert (await running.stub.Recommend(pb.RecommendRequest())).generation_id == good_id


class CountingLoader:
    def __init__(self) -> None:
        self.asked_for: list[str] = []

    def __call__(self, root: Path, generation_id: str, /) -> Engine:
        self.asked_for.append(generation_id)
        return load_fake(root, generation_id)


@pytest.fixture
def loader() -> CountingLoader:
    return CountingLoader()


@pytest.fixture
def swapped() -> list[str]:
    return []


@pytest.fixture
def follower(tmp_path: Path, loader: CountingLoader, swapped: list[str]) -> GenerationFollower:
    return GenerationFollower(
        tmp_path, poll_interval_s=60, load=loader, swap=lambda engine: swapped.append(engine.generation_id)
    )


def test_what_was_refused_is_not_tried_again_until_the_pointer_is_written(
    tmp_path: Path, follower: GenerationFollower, loader: CountingLoader
) -> None:
    bad_id = publish(tmp_path, refuse="everything")
    set_current(tmp_path, bad_id)
    follower.look()
    follower.look()
    assert loader.asked_for == [bad_id]
    set_current(tmp_path, bad_id)
    follower.look()
    assert loader.asked_for == [bad_id, bad_id]
    assert follower.status.refused_count == 2


def test_a_flipped_bit_is_refused_with_the_files_name(
    tmp_path: Path, follower: GenerationFollower, swapped: list[str]
) -> None:
    generation_id = publish(tmp_path)
    (tmp_path / generation_id / "nothing").write_bytes(b"nothinG")
    set_current(tmp_path, generation_id)
    follower.look()
    assert swapped == []
    assert "nothing has SHA-256" in follower.status.refused_reason


def test_the_pointer_back_at_what_is_served_loads_nothing(
    tmp_path: Path, follower: GenerationFollower, loader: CountingLoader, swapped: list[str]
) -> None:
    good_id, bad_id = publish(tmp_path), publish(tmp_path, refuse="everything")
    for generation_id in (good_id, bad_id, good_id):
        set_current(tmp_path, generation_id)
        follower.look()
    assert loader.asked_for == [good_id, bad_id]
    assert swapped == [good_id]
    assert follower.status.serving_id == good_id


def test_a_missing_root_and_a_damaged_pointer_are_survived(tmp_path: Path, follower: GenerationFollower) -> None:
    follower.look()
    assert follower.status.refused_id == ""
    (tmp_path / "CURRENT").write_text("no id at all\n")
    follower.look()
    assert follower.status.refused_id == "CURRENT"
    assert "PointerInvalid" in follower.status.refused_reason


def test_the_fake_engine_stands_for_the_protocol() -> None:
    engine: Engine = FakeEngine()
    assert engine.generation_id
    assert issubclass(GenerationError, Exception)
