"""`python -m index rebuild`: the same inputs give the same generation, and a newer catalogue is served at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from index.__main__ import app
from index.commands.rebuild import publish
from index.generation import Generation, current_id, list_generations, open_generation
from index.searcher import VectorsInvalid
from server.domain import ScoreAnswer, SimilarItemsAnswer, SimilarItemsQuery
from server.engine import Engine
from server.fitness import GenerationUnfit
from server.model import open_serving_model
from server.serving_model import ServingModel
from tests.conftest import SmallGeneration, SmallModel
from tests.server.real_engine import NOW_S, PLACEMENTS, listed, one, recommend, score_as
from towers.ingest import ingest_shop
from towers.model import TrainedModel
from towers.schema import Dataset, DatasetError, ShopConfig, load_dataset, read_shop_config

Rebuild = Callable[..., Generation]


@pytest.fixture
def rebuild(small_generation: SmallGeneration, tmp_path: Path) -> Rebuild:
    """Publishes into a directory of the test's own, from the small shop's inputs or from others."""

    def publish_one(dataset: Dataset | None = None, model: TrainedModel | None = None) -> Generation:
        shop = small_generation.config.with_work_dir(tmp_path)
        published = publish(
            shop, dataset or small_generation.dataset, model or small_generation.model, None, lambda _: None
        )
        return open_generation(shop.generations_dir, published.generation_id)

    return publish_one


def with_item_users_min(model: TrainedModel, item_users_min: int) -> TrainedModel:
    training = model.settings.training.model_copy(update={"item_users_min": item_users_min})
    return replace(model, settings=model.settings.model_copy(update={"training": training}))


def engine_of(serving: ServingModel) -> Engine:
    return Engine(serving, PLACEMENTS)


def test_the_same_inputs_give_the_same_files(rebuild: Rebuild, small_generation: SmallGeneration) -> None:
    first, second = rebuild(), rebuild()
    assert first.id != second.id
    assert first.manifest.files == second.manifest.files
    earlier = open_generation(small_generation.root, small_generation.generation_id)
    assert first.manifest.files == earlier.manifest.files
    lists = [
        listed(engine_of(open_serving_model(generation)), recommend("u01")).item_ids for generation in (first, second)
    ]
    assert lists[0] == lists[1]


def test_the_manifest_says_what_was_built(rebuild: Rebuild, small_generation: SmallGeneration) -> None:
    facts = rebuild().manifest.metadata
    dataset, model = small_generation.dataset, small_generation.model
    assert facts["item_count"] == facts["retrievable_count"] == 43
    assert facts["user_count"] == dataset.user_count == 30
    assert facts["event_count"] == len(dataset.events.time_s)
    assert facts["as_of_s"] == dataset.meta.last_time_s + 1
    assert (facts["dimension"], facts["feature_hash"]) == (16, model.feature_hash)
    assert facts["metrics"] == model.metrics
    assert isinstance(facts["index"], dict)
    assert (facts["index"]["kind"], facts["index"]["recall"]) == ("int8_exact", 1.0)


def newer_shop(small_shop_config: Path, directory: Path) -> ShopConfig:
    """The small shop a day later: an item of a brand that nobody has seen, and a new shopper who bought it."""
    for path in small_shop_config.parent.glob("*.*"):
        (directory / path.name).write_bytes(path.read_bytes())
    with (directory / "items.csv").open("a") as items:
        items.write('a-brand-new-one,tents,Novum,purple,300.00,"Novum tents, purple"\n')
    with (directory / "events.csv").open("a") as events:
        events.write("2026-10-30T09:00:00,newcomer,a-brand-new-one,purchase,n-1,1,300.00,,,,phone\n")
    return read_shop_config(directory / "shop.toml").with_work_dir(directory / "work")


def test_an_item_and_a_shopper_newer_than_the_model_are_served(
    rebuild: Rebuild, small_shop_config: Path, tmp_path: Path
) -> None:
    shop = newer_shop(small_shop_config, tmp_path)
    dataset = load_dataset(ingest_shop(shop).dataset_dir)
    assert dataset.item_count == 44
    serving = open_serving_model(rebuild(dataset))
    [row] = serving.item_ids.rows(["a-brand-new-one"])
    assert row >= 0
    vector = serving.snapshot.items.vectors[row]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    _, [[nearest]] = serving.searcher.search(vector[None], 1)
    assert nearest == row
    engine = engine_of(serving)
    neighbours = one(engine, SimilarItemsQuery("a-brand-new-one", 5))
    assert isinstance(neighbours, SimilarItemsAnswer)
    assert len(neighbours.item_ids) == 5
    everything = listed(engine, recommend("newcomer", "everything", page_size=44, explain=True))
    why = everything.explanations[everything.item_ids.index("a-brand-new-one")]
    assert why.times_bought == 1
    assert len(set(everything.item_ids)) == 44
    assert len(listed(engine, recommend("u01", "product", context_item_ids=("a-brand-new-one",))).item_ids) == 8


def test_vectors_have_unit_length_and_events_end_with_training(rebuild: Rebuild) -> None:
    serving = open_serving_model(rebuild())
    np.testing.assert_allclose(
        np.linalg.norm(serving.snapshot.items.vectors[: serving.snapshot.item_count], axis=1), 1, atol=1e-5
    )
    assert serving.snapshot.histories.time_s.max() < NOW_S


def test_an_item_that_is_to_stay_is_offered_whoever_bought_it(
    small_generation: SmallGeneration, tmp_path: Path
) -> None:
    shop, dataset = small_generation.config.with_work_dir(tmp_path), small_generation.dataset
    stays = np.array(dataset.items["item_id"].to_list()) == "new-tents"
    model = with_item_users_min(small_generation.model, 4)
    for also, offered in ((stays, True), (None, False)):
        published = publish(shop, dataset, model, None, lambda _: None, also_retrievable=also)
        engine = engine_of(open_serving_model(open_generation(shop.generations_dir, published.generation_id)))
        assert ("new-tents" in listed(engine, recommend("u01", "everything", page_size=43)).item_ids) is offered


def test_items_that_too_few_bought_are_known_and_not_offered(
    rebuild: Rebuild, small_generation: SmallGeneration
) -> None:
    generation = rebuild(model=with_item_users_min(small_generation.model, 4))
    serving = open_serving_model(generation)
    events, meta = small_generation.dataset.events, small_generation.dataset.meta
    bought = events.event_type == meta.event_types.index("purchase")
    buyers = pl.DataFrame({"item": events.item_row[bought], "user": events.user_row[bought]}).unique()
    enough = buyers.group_by("item").len().filter(pl.col("len") >= 4)["item"]
    offered = set(small_generation.dataset.items["item_id"].gather(enough).to_list())
    assert 5 < len(offered) < 30
    assert generation.manifest.metadata["retrievable_count"] == len(offered)
    engine = engine_of(serving)
    answer = listed(engine, recommend("u01", "everything", page_size=43))
    assert set(answer.item_ids) == offered
    assert answer.shortfall
    scored = one(engine, score_as(recommend("u01"), ["new-tents"]))
    assert isinstance(scored, ScoreAnswer)
    assert scored.known == [True]
    neighbours = one(engine, SimilarItemsQuery("new-tents", 3))
    assert isinstance(neighbours, SimilarItemsAnswer)
    assert set(neighbours.item_ids) <= offered


def test_an_approximate_index_serves_the_same_lists_on_a_small_shop(
    rebuild: Rebuild, small_generation: SmallGeneration, tmp_path: Path
) -> None:
    shop = small_generation.config.with_work_dir(tmp_path)
    shop = shop.model_copy(update={"index": {"kind": "flat"}})
    published = publish(shop, small_generation.dataset, small_generation.model, None, lambda _: None)
    generation = open_generation(shop.generations_dir, published.generation_id)
    assert "index.faiss" in generation.names
    flat, exact = engine_of(open_serving_model(generation)), engine_of(open_serving_model(rebuild()))
    assert listed(flat, recommend("u01")).item_ids == listed(exact, recommend("u01")).item_ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_types": ["click", "view", "cart", "purchase", "rating"]}, "event_types"),
        ({"target_event_types": ["cart"]}, "target_event_types"),
        ({"context_columns": []}, r"context columns \['device'\]"),
    ],
)
def test_a_dataset_that_codes_its_events_otherwise_is_refused(
    rebuild: Rebuild, small_dataset: Dataset, change: dict[str, object], message: str
) -> None:
    other = replace(small_dataset, meta=small_dataset.meta.model_copy(update=change))
    with pytest.raises(DatasetError, match=f"{message}.*train again"):
        rebuild(other)


def test_a_dataset_without_an_attribute_that_the_model_reads_is_refused(
    rebuild: Rebuild, small_dataset: Dataset
) -> None:
    with pytest.raises(DatasetError, match=r"item attributes \['brand', 'price'\]"):
        rebuild(replace(small_dataset, items=small_dataset.items.drop("brand", "price")))
    with pytest.raises(DatasetError, match=r"user attributes \['city'\]"):
        rebuild(replace(small_dataset, users=small_dataset.users.drop("city")))


def test_a_model_whose_training_diverged_is_not_published(
    rebuild: Rebuild, small_generation: SmallGeneration, small_model: SmallModel, tmp_path: Path
) -> None:
    from towers.model import read_model

    for module, message in (("ranker", "ranker.safetensors"), ("user_tower", "towers.safetensors")):
        broken = read_model(small_model.model_dir)
        with torch.no_grad():
            next(iter(getattr(broken, module).parameters())).fill_(float("nan"))
        with pytest.raises(GenerationUnfit, match=f"{message} holds what is no number"):
            rebuild(model=broken)
    broken = read_model(small_model.model_dir)
    with torch.no_grad():
        next(iter(broken.item_tower.parameters())).fill_(float("nan"))
    with pytest.raises(VectorsInvalid):
        rebuild(model=broken)
    assert list((tmp_path / "generations").iterdir()) == []


def test_publishing_leaves_the_pointer_and_the_command_moves_it(
    small_generation: SmallGeneration, small_model: SmallModel, small_shop_config: Path, tmp_path: Path
) -> None:
    work_dir = shutil.copytree(small_model.config.shop.work_dir, tmp_path / "work")
    text = small_shop_config.read_text().replace('"var/small"', f'"{work_dir}"')
    config = tmp_path / "shop.toml"
    config.write_text(text)
    root = work_dir / "generations"
    before = current_id(root)
    result = CliRunner().invoke(app, ["rebuild", str(config), "--no-activate"])
    assert result.exit_code == 0, result.output
    assert "published, not activated" in result.stdout
    assert current_id(root) == before == small_generation.generation_id
    assert list_generations(small_generation.root) == [small_generation.generation_id]


def test_what_is_wrong_is_said_in_one_line(small_shop_config: Path, tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    for broken, message in (
        (small_shop_config.read_text().replace('"var/small"', f'"{tmp_path}"'), "dataset"),
        ("[shop]\n", "shop.toml"),
    ):
        config.write_text(broken)
        result = CliRunner().invoke(app, ["rebuild", str(config)])
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert message in result.stderr
