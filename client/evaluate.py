"""`python -m client.evaluate CONFIG`: the served evaluation. Asks the running server over gRPC for every test user.

This is the one that counts: it judges the list that a shop would show, after retrieval, ranking and transport.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from twinrank_client import Client, RepeatPolicy

from client.served_lists import served_lists
from towers.evaluation import Comparison, EvaluationSet, TimeSplit, compare, split_by_time, target_interactions
from towers.schema import Dataset, ShopConfig, load_dataset, read_shop_config

PAGE_SIZE = 50
CUTOFFS = (5, 10, 20, 50)


def evaluate(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file.")],
    target: Annotated[str, typer.Option(help="host:port of a server that allows replay.")] = "127.0.0.1:50051",
    out: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
) -> None:
    """Judge what the server answers as of the end of training, beside every baseline on the same users."""
    shop = read_shop_config(config)
    console = Console(soft_wrap=True)
    dataset = load_dataset(shop.dataset_dir)
    with Client(target, timeout_s=30) as client, console.status("asking") as status:
        tables = judge(client, shop, dataset, status.update)
    for table in tables:
        console.print(table.table())
    if out is not None:
        out.write_text(json.dumps(figures(*tables), indent=1), encoding="utf-8")


def judge(client: Client, shop: ShopConfig, dataset: Dataset, progress: Any) -> tuple[Comparison, Comparison]:
    """Asks for every test user twice, all items and new only, and compares with the baselines."""
    split = test_split(shop, dataset)
    asked = split.evaluation_set
    progress("asking the server")
    served = served_rankings(client, dataset, asked)
    served_new_only = served_rankings(client, dataset, asked.new_only())
    return compare(split, {"served": served}, {"served": served_new_only}, CUTOFFS, progress)


def test_split(shop: ShopConfig, dataset: Dataset) -> TimeSplit:
    """Learned before [training] train_end, asked from then on."""
    end = shop.training.train_end
    if end is None:
        raise typer.BadParameter("[training] train_end is not set: there is no time left to test on")
    return split_by_time(
        target_interactions(dataset),
        train_end_s=int(end.timestamp()),
        item_users_min=max(shop.training.item_users_min, 1),
    )


def served_rankings(client: Client, dataset: Dataset, asked: EvaluationSet) -> NDArray[np.int32]:
    """(U, PAGE_SIZE) item rows of the dataset as the server ranks them, -1 pads."""
    user_ids = dataset.users["user_id"].gather(asked.user_rows).to_list()
    asked_at = datetime.fromtimestamp(asked.asked_at_s, UTC)
    policy = RepeatPolicy.EXCLUDE_BOUGHT if asked.exclude_bought else RepeatPolicy.ALLOW
    return served_lists(client, user_ids, dataset.items["item_id"].to_list(), asked_at, policy, PAGE_SIZE)


def figures(everything: Comparison, new_only: Comparison) -> dict[str, Any]:
    """The part of a report that evaluation fills."""
    all_items, new_items = everything.as_dict(), new_only.as_dict()
    return {
        "served": all_items["models"]["served"],
        "served_new_only": new_items["models"]["served"],
        "baselines": all_items["baselines"],
        "baselines_new_only": new_items["baselines"],
    }


if __name__ == "__main__":
    typer.run(evaluate)
