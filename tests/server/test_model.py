"""A generation whose files are whole and do not belong together: refused, with the file's name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load, save

from index.generation import GenerationError, GenerationWriter, open_generation
from index.int8_exact import Int8ExactSearcher
from index.item_ids import ItemIds
from server.fitness import GenerationUnfit
from server.golden import GOLDEN_FILE, PLACEMENTS, GoldenMismatch
from server.model import load_engine
from tests.conftest import SmallGeneration
from towers.model import TrainedModel, ranker_shape
from towers.models.item_tower import ItemTower
from towers.models.ranker import Ranker
from towers.models.user_tower import UserTower
from towers.sources.item_lists import ItemLists
from towers.sources.settings import ProfileSettings

Republish = Callable[..., str]


def untrained(model: TrainedModel, seed: int = 1, **towers: Any) -> TrainedModel:
    """A model with the same encoders and other weights, of other shapes where the settings say so."""
    settings = model.settings.model_copy(
        update={
            "towers": model.settings.towers.model_copy(update=towers),
            "ranker": model.settings.ranker.model_copy(update={"hidden": (8, 4)} if towers else {}),
        }
    )
    torch.manual_seed(seed)
    return replace(
        model,
        settings=settings,
        item_tower=ItemTower(model.encoders.item_shape, settings.towers.dimension, settings.towers.id_dropout),
        user_tower=UserTower(model.encoders.user_shape, settings.towers, settings.features),
        ranker=Ranker(ranker_shape(settings)),
    )


OPTIONAL = {"live.json", "attributes.safetensors", "attributes.json"}
"""A generation that was published before there were such files serves, and cannot do what they are for."""


@pytest.fixture
def files(small_generation: SmallGeneration) -> dict[str, bytes]:
    """The good generation's files."""
    directory = small_generation.root / small_generation.generation_id
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "manifest.json"}


@pytest.fixture
def load_with(files: dict[str, bytes], tmp_path: Path) -> Callable[[Mapping[str, bytes | None]], None]:
    """Publishes the files with some of them changed, None for left out, and loads what was published."""

    def publish_and_load(changes: Mapping[str, bytes | None]) -> None:
        with GenerationWriter(tmp_path) as writer:
            for name, data in {**files, **changes}.items():
                if data is not None:
                    writer.add_bytes(name, data)
            generation_id = writer.publish({})
        load_engine(open_generation(tmp_path, generation_id), PLACEMENTS)

    return publish_and_load


def test_the_files_of_a_generation(files: dict[str, bytes], load_with: Any) -> None:
    assert sorted(files) == [
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
    ]
    load_with({})


def test_a_missing_file_is_named(files: dict[str, bytes], load_with: Any) -> None:
    for name in set(files) - OPTIONAL:
        # Without its index a generation names all that it might have been.
        with pytest.raises((GenerationUnfit, GenerationError), match=name):
            load_with({name: None})


def test_a_generation_without_live_positions_or_attributes_serves(load_with: Any) -> None:
    load_with(dict.fromkeys(OPTIONAL))


def test_a_file_that_is_something_else_is_named(files: dict[str, bytes], load_with: Any) -> None:
    for name in files:
        for data in (
            b"",
            b"\x00" * 100,
            b"\xff" * 100,
            b"{}",
            files["items.ids" if name != "items.ids" else GOLDEN_FILE],
        ):
            with pytest.raises((GenerationUnfit, GoldenMismatch), match=name):
                load_with({name: data})


@pytest.mark.parametrize("name", ["model.json", "towers.safetensors", "ranker.safetensors"])
def test_a_model_s_file_of_other_shapes_is_named(load_with: Any, small_generation: SmallGeneration, name: str) -> None:
    other = untrained(small_generation.model, dimension=8).files()
    named = "towers.safetensors" if name == "model.json" else name  # the first whose shapes model.json contradicts
    with pytest.raises(GenerationUnfit, match=named):
        load_with({name: other[name]})


def test_a_whole_model_of_another_dimension_is_refused_at_the_first_file_that_it_does_not_fit(
    load_with: Any, small_generation: SmallGeneration
) -> None:
    other = untrained(small_generation.model, dimension=8).files()
    with pytest.raises(GenerationUnfit, match=r"dimension of index.int8_exact.safetensors is 16; .* says 8"):
        load_with(other)


@pytest.mark.parametrize("name", ["towers.safetensors", "ranker.safetensors"])
def test_weights_of_the_same_shape_are_found_by_the_golden_queries(
    load_with: Any, small_generation: SmallGeneration, name: str
) -> None:
    with pytest.raises(GoldenMismatch, match=r"golden.json: query \d+"):
        load_with({name: untrained(small_generation.model).files()[name]})


def test_vectors_of_another_model_are_found_by_the_golden_queries(files: dict[str, bytes], load_with: Any) -> None:
    items = dict(load(files["items.safetensors"]))
    items["vectors"] = np.ascontiguousarray(items["vectors"][::-1])
    with pytest.raises(GoldenMismatch, match=r"golden.json: query \d+"):
        load_with({"items.safetensors": save(items)})


def test_a_model_of_other_features_is_refused(files: dict[str, bytes], load_with: Any) -> None:
    record = json.loads(files["model.json"])
    for field, value, named in (
        ("feature_hash", "0" * 16, "feature_hash 0000"),
        ("format_version", 99, "format_version 99"),
        ("event_types", ["purchase", "view"], "feature_hash"),
        ("target_event_types", ["stare"], "target_event_types"),
    ):
        with pytest.raises(GenerationUnfit, match=rf"model\.json.*{named}"):
            load_with({"model.json": json.dumps({**record, field: value}).encode()})


@pytest.mark.parametrize("name", ["items.ids", "users.ids"])
def test_ids_fewer_or_in_another_order(files: dict[str, bytes], load_with: Any, name: str) -> None:
    ids = ItemIds.from_bytes(files[name])
    names = ids.ids(np.arange(len(ids)))
    with pytest.raises(GenerationUnfit, match=f"id count of {name} is {len(names) - 1}; .* says {len(names)}"):
        load_with({name: ItemIds.from_ids(names[:-1]).to_bytes()})
    found_by = (GenerationUnfit, "items.ids") if name == "items.ids" else (GoldenMismatch, r"query \d+")
    with pytest.raises(found_by[0], match=found_by[1]):
        load_with({name: ItemIds.from_ids(names[::-1]).to_bytes()})


def test_a_catalogue_of_other_items(files: dict[str, bytes], load_with: Any) -> None:
    catalogue = pl.read_parquet(files["catalogue.parquet"])
    for other in (catalogue.head(42), catalogue.reverse(), catalogue.drop("item_id")):
        buffer = BytesIO()
        other.write_parquet(buffer)
        with pytest.raises(GenerationUnfit, match=r"catalogue\.parquet"):
            load_with({"catalogue.parquet": buffer.getvalue()})


def test_an_index_of_fewer_items_or_another_dimension(files: dict[str, bytes], load_with: Any, tmp_path: Path) -> None:
    name = "index.int8_exact.safetensors"
    vectors = load(files[name])["vectors"]
    for other, what in ((vectors[:, :8], "dimension"), (vectors[:40], "item count")):
        Int8ExactSearcher.of(np.ascontiguousarray(other)).save(tmp_path / name)
        with pytest.raises(GenerationUnfit, match=f"{what} of {name}"):
            load_with({name: (tmp_path / name).read_bytes()})


def test_sources_that_the_model_does_not_read_are_refused(files: dict[str, bytes], load_with: Any) -> None:
    items = load(files["items.safetensors"])
    count = len(items["statistics"]) - int(items["spare_row_count"][0])
    lists = ItemLists.of_top(np.zeros((count, 1), np.int32), np.ones((count, 1), np.float32), ProfileSettings())
    arrays = {f"item_item/{name}": array for name, array in lists.arrays().items()}
    with pytest.raises(GenerationUnfit, match=r"sources\.safetensors holds .*'item_item'.*reads \[\]"):
        load_with({"sources.safetensors": save(arrays)})


def test_two_indexes_are_one_too_many(files: dict[str, bytes], load_with: Any) -> None:
    with pytest.raises(GenerationUnfit, match=r"index\.faiss.*index\.int8_exact\.safetensors"):
        load_with({"index.faiss": b"anything"})


@pytest.mark.parametrize(
    ("file", "array", "change"),
    [
        ("items.safetensors", "vectors", lambda a: a[:, :8]),
        ("items.safetensors", "item_part", lambda a: a[:, :3]),
        ("items.safetensors", "item_part", lambda a: a.astype(np.float64)),
        ("items.safetensors", "statistics", lambda a: a[:-1]),
        ("items.safetensors", "popular", lambda a: a + 1),
        ("items.safetensors", "affinity", lambda a: a - 100),
        ("items.safetensors", "affinity", lambda a: a[:, :1]),
        ("items.safetensors", "affinity", lambda a: a[:-1]),
        ("items.safetensors", "affinity", lambda a: a.astype(np.int64)),
        ("users.safetensors", "item_row", lambda a: a + 40),
        ("users.safetensors", "item_row", lambda a: a.astype(np.int64)),
        ("users.safetensors", "event_type", lambda a: a + 9),
        ("users.safetensors", "bucket", lambda a: a + 17),
        ("users.safetensors", "bucket", lambda a: a - 17),
        ("users.safetensors", "attribute", lambda a: a + 50),
        ("users.safetensors", "attribute", lambda a: a[:, :1]),
        ("users.safetensors", "offsets", lambda a: a[:0]),
        ("users.safetensors", "offsets", lambda a: a[::-1]),
        ("users.safetensors", "time_s", lambda a: a[:-1]),
    ],
)
def test_an_array_that_the_rest_contradicts_is_named_with_its_file(
    files: dict[str, bytes], load_with: Any, file: str, array: str, change: Callable[[Any], Any]
) -> None:
    arrays = dict(load(files[file]))
    arrays[array] = np.ascontiguousarray(change(arrays[array]))
    with pytest.raises(GenerationUnfit) as refusal:
        load_with({file: save(arrays)})
    assert file in str(refusal.value)
    assert array in str(refusal.value)


def test_an_array_that_is_missing_is_named_with_its_file(files: dict[str, bytes], load_with: Any) -> None:
    for file in ("items.safetensors", "users.safetensors"):
        for array in load(files[file]).keys() - {"spare_row_count"}:  # older generations have no spare rows
            arrays = {name: values for name, values in load(files[file]).items() if name != array}
            with pytest.raises(GenerationUnfit, match=f"{file}: array {array} is missing"):
                load_with({file: save(arrays)})
