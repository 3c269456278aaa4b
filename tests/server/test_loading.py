"""What a loader is spared by what others found, and what it is not."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from index.generation import GenerationWriter, current_id, set_current
from server.config import ServerConfig
from server.examination import Finding
from server.fitness import GenerationUnfit
from server.loading import examine, loader, verified_ahead, verify
from tests.conftest import SmallGeneration
from tests.server.conftest import make_config


@pytest.fixture
def config(small_generation: SmallGeneration) -> ServerConfig:
    return make_config(small_generation.root)


@pytest.fixture
def unfit(small_generation: SmallGeneration, tmp_path: Path) -> tuple[ServerConfig, str]:
    """A generation that answers as it should, and whose catalogue is of other items."""
    source = small_generation.root / small_generation.generation_id
    with GenerationWriter(tmp_path) as writer:
        for path in source.iterdir():
            if path.name == "catalogue.parquet":
                pl.read_parquet(path).reverse().write_parquet(writer.path(path.name))
            elif path.name != "manifest.json":
                writer.add_file(path.name, path)
        generation_id = writer.publish({})
    set_current(tmp_path, generation_id)
    return make_config(tmp_path), generation_id


def test_what_was_examined_is_not_compared_again(unfit: tuple[ServerConfig, str]) -> None:
    config, generation_id = unfit
    seal = verify(config, generation_id)
    for finding in (Finding(), Finding(seal=seal)):
        with pytest.raises(GenerationUnfit, match=r"catalogue\.parquet"):
            loader(config, lambda _, found=finding: found)(config.generations.root, generation_id)  # type: ignore[misc]
    with pytest.raises(GenerationUnfit, match=r"catalogue\.parquet"):
        examine(config, generation_id, seal)
    load = loader(config, lambda _: Finding(seal=seal, fits=True))
    assert load(config.generations.root, generation_id).generation_id == generation_id


def test_a_good_generation_is_verified_and_examined(config: ServerConfig, small_generation: SmallGeneration) -> None:
    seal = verify(config, small_generation.generation_id)
    assert seal.generation_id == small_generation.generation_id
    examine(config, small_generation.generation_id, seal)


def test_what_was_refused_is_not_opened(config: ServerConfig, tmp_path: Path) -> None:
    load = loader(config, lambda _: Finding(refused="it ended a process with SIGSEGV"))
    with pytest.raises(GenerationUnfit, match="20260131T120000-0123456789abcdef: it ended a process with SIGSEGV"):
        load(tmp_path / "nowhere", "20260131T120000-0123456789abcdef")


def test_the_current_generation_is_verified_ahead_and_no_other(config: ServerConfig) -> None:
    ask = verified_ahead(config)
    current = current_id(config.generations.root)
    assert current is not None
    seal = ask(current).seal
    assert seal is not None
    assert seal.generation_id == current
    assert ask("20260131T120000-0123456789abcdef") == Finding()


def test_a_missing_root_or_a_damaged_generation_is_left_to_the_loader(
    unfit: tuple[ServerConfig, str], tmp_path: Path
) -> None:
    config, generation_id = unfit
    (tmp_path / generation_id / "golden.json").write_bytes(b"")
    assert verified_ahead(config)(generation_id) == Finding()
    assert verified_ahead(make_config(tmp_path / "nowhere"))(generation_id) == Finding()
