"""A bit flipped in any file of a generation: the running server and `index verify` refuse it by that file's name."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twinrank.v1 import admin_pb2
from twinrank.v1 import recommendation_pb2 as pb
from typer.testing import CliRunner

from index.__main__ import app
from index.generation import GenerationWriter, set_current
from server.generations import GenerationFollower
from tests.conftest import SmallGeneration
from tests.end_to_end.processes import scrape
from tests.server.conftest import TOKEN, Running
from tests.server.waiting import until

FILES = (
    "manifest.json",
    "attributes.json",
    "attributes.safetensors",
    "catalogue.parquet",
    "golden.json",
    "index.int8_exact.safetensors",
    "items.ids",
    "items.safetensors",
    "live.json",
    "model.json",
    "ranker.safetensors",
    "towers.safetensors",
    "users.ids",
    "users.safetensors",
)


def publish_again(root: Path, generation_id: str) -> Path:
    """The same files as a generation of another id; its directory."""
    with GenerationWriter(root) as writer:
        for path in (root / generation_id).iterdir():
            if path.name != "manifest.json":
                writer.add_file(path.name, path)
        return root / writer.publish({})


def has_refused(follower: GenerationFollower, count: int) -> bool:
    return follower.status.refused_count == count


def flip_bit(path: Path, place: float) -> None:
    """One bit of the byte that lies at this part of the file."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1 << int(place * 7)
    path.write_bytes(data)


def test_these_are_all_files(small_generation: SmallGeneration) -> None:
    directory = small_generation.root / small_generation.generation_id
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("place", [0.0, 0.4, 1.0])
async def test_a_flipped_bit_in_any_file_is_refused_by_name_and_the_old_generation_serves_on(
    small_service: Running, own_generations: SmallGeneration, place: float
) -> None:
    root, good_id = own_generations.root, own_generations.generation_id
    follower = small_service.server.follower
    for count, name in enumerate(FILES, start=1):
        directory = publish_again(root, good_id)
        flip_bit(directory / name, place)
        set_current(root, directory.name)
        await until(partial(has_refused, follower, count))
        seen = await small_service.admin.GetStatus(
            admin_pb2.GetStatusRequest(), metadata=(("authorization", f"Bearer {TOKEN}"),)
        )
        assert seen.refused_generation_id == directory.name
        assert f"{name} has SHA-256" in seen.refused_reason
        assert seen.generation_id == good_id
        answer = await small_service.stub.Recommend(pb.RecommendRequest(user_id="u01"))
        assert answer.generation_id == good_id
        assert len(answer.item_ids) == 20
        verified = CliRunner().invoke(app, ["verify", directory.name, "--root", str(root)])
        assert verified.exit_code == 1
        assert f"{name} has SHA-256" in verified.stderr
    text = scrape(small_service.server.metrics_port)
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    assert samples["twinrank_generations_refused_total"].value == len(FILES)
    assert samples["twinrank_generation_info"].labels == {"generation_id": good_id}


async def test_a_generation_that_does_not_fit_is_refused_and_a_good_one_after_it_is_taken(
    small_service: Running, own_generations: SmallGeneration
) -> None:
    root, good_id = own_generations.root, own_generations.generation_id
    golden = json.loads((root / good_id / "golden.json").read_text())
    golden["queries"][3]["times_bought"][0] += 1
    with GenerationWriter(root) as writer:
        for path in (root / good_id).iterdir():
            if path.name == "golden.json":
                writer.add_bytes(path.name, json.dumps(golden).encode())
            elif path.name != "manifest.json":
                writer.add_file(path.name, path)
        unfit_id = writer.publish({})
    set_current(root, unfit_id)
    await until(lambda: small_service.server.follower.status.refused_id == unfit_id)
    assert "golden.json: query 3" in small_service.server.follower.status.refused_reason
    assert (await small_service.stub.Recommend(pb.RecommendRequest())).generation_id == good_id
    better_id = publish_again(root, good_id).name
    set_current(root, better_id)
    await until(lambda: small_service.server.follower.status.serving_id == better_id)
    assert (await small_service.stub.Recommend(pb.RecommendRequest())).generation_id == better_id
