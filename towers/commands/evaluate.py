"""`python -m towers evaluate CONFIG`: the model beside every baseline, on the time after its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from towers.schema import LogTooShortError, load_dataset, read_shop_config


def evaluate(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file.")],
    out: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
) -> None:
    """Judge the trained model offline; the served evaluation (client.evaluate) is the one that counts."""
    from towers.commands.train import exact_search
    from towers.evaluation import compare, rating_rmse, split_by_time, target_interactions
    from towers.model import read_model
    from towers.offline import rank_users

    shop = read_shop_config(config)
    dataset = load_dataset(shop.dataset_dir)
    model = read_model(shop.run_dir / "model")
    training = shop.learning.training
    try:
        split = split_by_time(
            target_interactions(dataset),
            train_end_s=model.ranker_until_s,
            item_users_min=max(training.item_users_min, 1),
        )
    except ValueError as error:
        raise LogTooShortError(
            f"nothing to evaluate on: {error}; set [training] train_end before the last events"
        ) from error
    asked = split.evaluation_set
    everything = rank_users(dataset, model, asked, exact_search, k=50)
    new_only = rank_users(dataset, model, asked.new_only(), exact_search, k=50)
    console = Console(soft_wrap=True)
    with console.status("baselines") as status:
        tables = compare(split, {"twinrank": everything}, {"twinrank": new_only}, progress=status.update)
    for comparison in tables:
        console.print(comparison.table())
    figures: dict[str, Any] = {comparison.title: comparison.as_dict() for comparison in tables}
    figures["ranker"] = {name: model.metrics["validation"][name] for name in ("auc", "log_loss", "calibration_error")}
    console.print("ranker on validation: " + ", ".join(f"{name} {value}" for name, value in figures["ranker"].items()))
    if (ratings := rating_rmse(dataset, model.ranker_until_s)) is not None:
        figures["ratings"] = ratings
        console.print("ratings: " + ", ".join(f"{name} {value:.3f}" for name, value in ratings.items()))
    if out is not None:
        out.write_text(json.dumps(figures, indent=1), encoding="utf-8")
