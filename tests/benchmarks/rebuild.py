"""`python -m tests.benchmarks.rebuild W1M`: how long `python -m index rebuild` takes for a shop of that size.

Nobody trains on a million items for this: the dataset is written as ingest would have left it, the model has the demo's
sizes and weights set by hand (tests.benchmarks.synthetic_model) with an embedding for each id that was bought often
enough. Everything after that is the command itself in a process of its own: load, embed, index, write, publish.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import tomlkit
import torch
import typer

from index.generation import list_generations
from tests.benchmarks import workloads
from tests.benchmarks.synthetic_generation import attribute_codes, catalogue
from tests.benchmarks.synthetic_model import USER_ATTRIBUTE_VALUES, attribute_value, make_model
from tests.benchmarks.synthetic_shop import AS_OF_S, HISTORY_EVENTS, SEED, SyntheticShop, make_shop
from tests.benchmarks.workloads import SHOP_CONFIG, SYNTHETIC, Workload
from towers.features.vocabularies import Vocabulary
from towers.ingest.write import replaced_directory
from towers.models.item_tower import ItemTower
from towers.schema import ShopConfig, read_shop_config
from towers.schema.dataset import (
    EVENT_DTYPES,
    EVENTS_FILE,
    FORMAT_VERSION,
    ITEMS_FILE,
    META_FILE,
    NO_SESSION,
    USERS_FILE,
    AttributeNames,
    DatasetCounts,
    DatasetMeta,
)

CORES = 2
CONFIG_FILE, REPORT_FILE = "shop.toml", "rebuild.json"


@dataclass(frozen=True)
class Rebuilt:
    """What the command took.

    Attributes:
        rebuild_s: from the start of the process to its end. cpu_s: of all its threads.
        peak_mb: the most memory that it held at once.
        said: its own lines.
    """

    rebuild_s: float
    cpu_s: float
    peak_mb: float
    said: list[str]


def rebuild(
    name: Annotated[str, typer.Argument(help="W10k, W100k, W1M or W10M.")] = "W1M",
    directory: Annotated[Path | None, typer.Option(help="Where the shop lies; default var/bench/<name>/shop.")] = None,
) -> None:
    """Measure the command on two cores, and write what it took beside the shop."""
    workload = SYNTHETIC[name]
    place = directory if directory is not None else workloads.BENCH_DIR / name / "shop"
    found = measure(ensure_shop(workload, place))
    (place / REPORT_FILE).write_text(json.dumps(asdict(found), indent=1))
    print(json.dumps(asdict(found), indent=1))


def measure(config: Path) -> Rebuilt:
    """Runs `python -m index rebuild` for the shop, activates nothing, and removes the generation that it made."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    root = read_shop_config(config).generations_dir
    known = list_generations(root)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", "index", "rebuild", str(config)]
    command += ["--no-activate"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rebuild_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    for made in set(list_generations(root)) - set(known):
        shutil.rmtree(root / made)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Rebuilt(rebuild_s, cpu_s, after.ru_maxrss / 1024, done.stdout.splitlines())


def ensure_shop(workload: Workload, directory: Path) -> Path:
    """Makes the shop's configuration, dataset and model unless they are there; returns the configuration."""
    path = directory / CONFIG_FILE
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    made = directory / f"{CONFIG_FILE}.made"
    made.write_text(_config(directory))
    config = read_shop_config(made)
    shop = make_shop(workload.item_count, workload.user_count)
    _write_dataset(config, shop, workload)
    _write_model(config, shop)
    made.rename(path)
    return path


def _config(directory: Path) -> str:
    """The demo's, with every item retrievable and all events known, as the workloads have it."""
    document = tomlkit.parse(SHOP_CONFIG.read_text("utf-8"))
    document["shop"]["work_dir"] = str(directory)  # type: ignore[index]
    document["training"]["item_users_min"] = 0  # type: ignore[index]
    del document["training"]["train_end"]  # type: ignore[union-attr]
    return tomlkit.dumps(document)


def _item_ids(count: int) -> list[str]:
    return [f"i{row:08d}" for row in range(count)]


def _write_dataset(config: ShopConfig, shop: SyntheticShop, workload: Workload) -> None:
    random = np.random.default_rng(SEED + 2)
    assert config.users is not None
    users: dict[str, Any] = {"user_id": [f"u{row:07d}" for row in range(workload.user_count)]}
    for name in config.users.categorical:
        values = pl.Series([attribute_value(name, code) for code in range(1, USER_ATTRIBUTE_VALUES + 1)])
        users[name] = values.gather(random.integers(0, len(values), workload.user_count))
    event_count = len(shop.item_row)
    events = {name: np.full(event_count, np.nan, np.float32) for name in EVENT_DTYPES} | {
        "user_row": np.repeat(np.arange(workload.user_count, dtype=np.int32), HISTORY_EVENTS),
        "item_row": shop.item_row,
        "event_type": np.zeros(event_count, np.uint8),
        "time_s": shop.time_s,
        "session": np.full(event_count, NO_SESSION, np.int64),
    }
    meta = DatasetMeta(
        format_version=FORMAT_VERSION,
        shop=workload.name,
        event_types=("purchase",),
        target_event_types=("purchase",),
        item_attributes=AttributeNames(categorical=config.items.categorical, numeric=(), text=()),
        user_attributes=AttributeNames(categorical=config.users.categorical, numeric=(), text=()),
        context_columns=(),
        counts=DatasetCounts(rows=event_count, items=workload.item_count, users=workload.user_count),
        sources={},
        imputed={},
        first_time_s=int(shop.time_s.min()),
        last_time_s=int(shop.time_s.max()),
    )
    with replaced_directory(config.dataset_dir) as directory:
        catalogue(_item_ids(workload.item_count), attribute_codes(shop, random)).write_parquet(directory / ITEMS_FILE)
        pl.DataFrame(users).write_parquet(directory / USERS_FILE)
        pl.DataFrame(events).write_parquet(directory / EVENTS_FILE)
        (directory / META_FILE).write_text(meta.model_dump_json())


def _write_model(config: ShopConfig, shop: SyntheticShop) -> None:
    """The synthetic model, with an item tower of random weights: what attributes share brings items together."""
    model = make_model(config)
    frequent = np.flatnonzero(shop.popularity >= config.learning.towers.item_events_min)
    ids = _item_ids(len(shop.popularity))
    items = replace(model.encoders.items, ids=Vocabulary(tuple(ids[row] for row in frequent)))
    encoders = replace(model.encoders, items=items)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        tower = ItemTower(encoders.item_shape, config.learning.towers.dimension, config.learning.towers.id_dropout)
    until_s = AS_OF_S
    replace(model, encoders=encoders, item_tower=tower.eval(), towers_until_s=until_s, ranker_until_s=until_s).write(
        config.run_dir / "model"
    )


if __name__ == "__main__":
    typer.run(rebuild)
