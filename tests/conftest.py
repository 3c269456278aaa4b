"""What every room's tests may use: the small made shop, its dataset, its model, its generation, and its real server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from rich.progress import Progress

from towers.ingest import ingest_shop
from towers.schema import Dataset, ShopConfig, load_dataset, read_shop_config

if TYPE_CHECKING:
    from tests.server.conftest import Running
    from towers.model import TrainedModel


# The first example of a test may be the one for which a kernel is compiled; pytest's own limit ends what hangs.
hypothesis.settings.register_profile("twinrank", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("twinrank")


@pytest.fixture(scope="session")
def small_shop_config() -> Path:
    """Path of the small shop's TOML file; for a work directory of your own see ShopConfig.with_work_dir."""
    return Path(__file__).parent / "shops" / "small" / "shop.toml"


@dataclass(frozen=True)
class SmallModel:
    """A model trained on the small shop: the shop's config, and the directories that its work lies in."""

    config: ShopConfig
    dataset_dir: Path
    model_dir: Path


@pytest.fixture(scope="session")
def small_shop(small_shop_config: Path, tmp_path_factory: pytest.TempPathFactory) -> ShopConfig:
    """The small shop with a work directory of its own, ingested once."""
    config = read_shop_config(small_shop_config).with_work_dir(tmp_path_factory.mktemp("small"))
    ingest_shop(config)
    return config


@pytest.fixture(scope="session")
def small_dataset(small_shop: ShopConfig) -> Dataset:
    """The small shop's dataset."""
    return load_dataset(small_shop.dataset_dir)


@pytest.fixture(scope="session")
def small_model(small_shop: ShopConfig, small_dataset: Dataset) -> SmallModel:
    """The small shop's model, trained once by the settings of its TOML file; two seconds on one core."""
    from towers.commands.train import exact_search
    from towers.training.run import TrainingRun

    run = TrainingRun(
        small_dataset, small_shop.learning, exact_search, small_shop.run_dir, Progress(disable=True), lambda _: None
    )
    model_dir = small_shop.run_dir / "model"
    run.run().write(model_dir)
    return SmallModel(small_shop, small_shop.dataset_dir, model_dir)


@dataclass(frozen=True)
class SmallGeneration:
    """A published and current generation of the small shop, and what it was made from."""

    config: ShopConfig
    dataset: Dataset
    model: TrainedModel
    root: Path
    generation_id: str


@pytest.fixture(scope="session")
def small_generation(small_model: SmallModel, small_dataset: Dataset) -> SmallGeneration:
    """Published once for all tests, which only read it; a test that publishes takes `own_generations`."""
    from index.commands.rebuild import publish
    from index.generation import set_current
    from towers.model import read_model

    config, model = small_model.config, read_model(small_model.model_dir)
    generation_id = publish(config, small_dataset, model, None, lambda _: None).generation_id
    set_current(config.generations_dir, generation_id)
    return SmallGeneration(config, small_dataset, model, config.generations_dir, generation_id)


@pytest.fixture
def own_generations(small_generation: SmallGeneration, tmp_path: Path) -> SmallGeneration:
    """A copy of the small shop's generation in a work directory of the test's own."""
    config = small_generation.config.with_work_dir(tmp_path)
    shutil.copytree(small_generation.root, config.generations_dir)
    return replace(small_generation, config=config, root=config.generations_dir)


@pytest.fixture
async def small_service(own_generations: SmallGeneration) -> AsyncIterator[Running]:
    """The real server on free ports of this process, over a generations root of the test's own; replay is allowed."""
    from tests.server.conftest import make_config, serve
    from tests.server.real_engine import loader

    config = make_config(own_generations.root, time={"replay_allowed": True})
    async with serve(config, loader(config)) as running:
        yield running
