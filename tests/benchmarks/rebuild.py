"""How long `python -m index rebuild` takes: the command itself, on all cores, into a directory that is thrown away.

The demo's shop has a dataset and a model. For a synthetic one both are written first, which is not counted: its items
and events as a dataset, the synthetic model as the trained one, the demo's configuration with the workload's index.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tomlkit

from tests.benchmarks.processes import ALL_CORES
from tests.benchmarks.synthetic_model import ATTRIBUTE_VALUES, USER_ATTRIBUTE_VALUES, attribute_value, make_model
from tests.benchmarks.synthetic_shop import AS_OF_S, HISTORY_EVENTS, SEED, make_shop
from tests.benchmarks.workloads import DEMO, SHOP_CONFIG, SYNTHETIC, Workload
from towers.schema import read_shop_config
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

PROBE_COUNT = 16
"""Given and not searched for: how far a search would go depends on vectors that nobody trained."""


def measure_rebuild(workload: str) -> dict[str, float]:
    """`rebuild_s`: from the command's start to its end."""
    with tempfile.TemporaryDirectory() as directory:
        config = _demo(Path(directory)) if workload == DEMO else _synthetic(SYNTHETIC[workload], Path(directory))
        began = time.monotonic()
        command = ["taskset", "-c", ALL_CORES, sys.executable, "-m", "index", "rebuild", str(config)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {"rebuild_s": time.monotonic() - began}


def _demo(directory: Path) -> Path:
    shop = read_shop_config(SHOP_CONFIG)
    for made in (shop.dataset_dir, shop.run_dir):
        (directory / made.name).symlink_to(made.absolute())
    return _config(directory, {})


def _config(directory: Path, changes: dict[str, dict[str, object]]) -> Path:
    """The demo's configuration with other values, beside the dataset and the model that it is for."""
    document = tomlkit.parse(SHOP_CONFIG.read_text())
    for section, values in ({"shop": {"work_dir": str(directory)}} | changes).items():
        document.setdefault(section, tomlkit.table()).update(values)
    file = directory / SHOP_CONFIG.name
    file.write_text(tomlkit.dumps(document))
    return file


def _synthetic(workload: Workload, directory: Path) -> Path:
    file = _config(
        directory,
        {
            "training": {"train_end": _moment(AS_OF_S), "item_users_min": 0},  # every item may be recommended
            "index": {"kind": "ivf_sq8", "list_count": workload.list_count, "probe_count": PROBE_COUNT},
        },
    )
    shop = read_shop_config(file)
    shop.dataset_dir.mkdir()
    _write_dataset(workload, shop.dataset_dir)
    make_model(shop).write(shop.run_dir / "model")
    return file


def _moment(time_s: int) -> object:
    return tomlkit.datetime(np.datetime_as_string(np.datetime64(time_s, "s"), timezone="UTC"))


def _write_dataset(workload: Workload, directory: Path) -> None:
    """The shop's items, users and events as ingest would have left them."""
    made, random = make_shop(workload.item_count, workload.user_count), np.random.default_rng(SEED)
    shop = read_shop_config(SHOP_CONFIG)
    user_attributes = shop.users.categorical if shop.users is not None else ()

    def column(name: str, value_count: int, row_count: int) -> pl.Series:
        values = pl.Series([attribute_value(name, code + 1) for code in range(value_count)])
        return values.gather(random.integers(0, value_count, row_count))

    pl.DataFrame(
        {"item_id": [f"i{row:08d}" for row in range(workload.item_count)]}
        | {name: column(name, ATTRIBUTE_VALUES[name], workload.item_count) for name in shop.items.categorical}
    ).write_parquet(directory / ITEMS_FILE)
    pl.DataFrame(
        {"user_id": [f"u{row:07d}" for row in range(workload.user_count)]}
        | {name: column(name, USER_ATTRIBUTE_VALUES, workload.user_count) for name in user_attributes}
    ).write_parquet(directory / USERS_FILE)
    count = len(made.item_row)
    given: dict[str, Any] = {
        "user_row": np.repeat(np.arange(workload.user_count), HISTORY_EVENTS),
        "item_row": made.item_row,
        "event_type": np.zeros(count),
        "time_s": made.time_s,
        "session": np.full(count, NO_SESSION),
    }
    nothing = np.full(count, np.nan)
    pl.DataFrame(
        {name: pl.Series(given.get(name, nothing)).cast(dtype) for name, dtype in EVENT_DTYPES.items()}
    ).write_parquet(directory / EVENTS_FILE)
    meta = DatasetMeta(
        format_version=FORMAT_VERSION,
        shop=workload.name,
        event_types=("purchase",),
        target_event_types=("purchase",),
        item_attributes=AttributeNames(categorical=tuple(shop.items.categorical), numeric=(), text=()),
        user_attributes=AttributeNames(categorical=tuple(user_attributes), numeric=(), text=()),
        context_columns=(),
        counts=DatasetCounts(rows=count, items=workload.item_count, users=workload.user_count),
        sources={},
        imputed={},
        first_time_s=int(made.time_s.min()),
        last_time_s=int(made.time_s.max()),
    )
    (directory / META_FILE).write_text(meta.model_dump_json())


if __name__ == "__main__":
    print(measure_rebuild(sys.argv[1]))
