"""`python -m towers report CONFIG`: what the lists are worth, for whom and from where, as one page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from towers.reporting.splits import DAY_S, Split, bounds, split_of
from towers.schema import ConfigError, DataError, Dataset, ShopConfig, load_dataset, read_shop_config

if TYPE_CHECKING:
    from towers.evaluation import TimeSplit
    from towers.model import TrainedModel
    from towers.reporting.asking import Asker
    from towers.reporting.measure import Answers

COLD_ITEMS_FILE = "cold_items.json"


def report(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file.")],
    lists: Annotated[Path | None, typer.Option(help="Served lists, as client.evaluate --lists wrote them.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where report.html and report.json go; default: the run's.")] = None,
    split: Annotated[Split, typer.Option(help="The time that is asked about.")] = Split.TEST,
    model_dir: Annotated[Path | None, typer.Option("--model", help="A trained model; default: the run's.")] = None,
    attribute: Annotated[str, typer.Option(help="The item attribute to slice by; default: the first one.")] = "",
    ablation: Annotated[bool, typer.Option(help="Rank again without each source.")] = True,
    cold_start: Annotated[bool, typer.Option(help="Train once more without some items, then ask for them.")] = False,
) -> None:
    """Write the evaluation report; without --lists it ranks offline, and says so."""
    from towers.commands.train import exact_search
    from towers.model import read_model
    from towers.reporting.asking import Asker
    from towers.reporting.cold_users import cold_users
    from towers.reporting.measure import MAIN_K, finite, measure_all
    from towers.reporting.page import render
    from towers.reporting.verdict import verdict

    shop = read_shop_config(config)
    dataset = load_dataset(shop.dataset_dir)
    model = read_model(model_dir or shop.run_dir / "model")
    asked_split = split_of(shop, dataset, split)
    directory = out or shop.run_dir / "report"
    directory.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True)
    with console.status("reading") as status:
        asker = Asker.of(dataset, model, asked_split.evaluation_set.asked_at_s, exact_search)
        answers, about = _answers(asker, dataset, asked_split, lists, ablation, status.update)
        figures = measure_all(dataset, asked_split, answers, _attribute(dataset, shop, attribute), status.update)
        status.update("users with few events")
        cold = {"users": cold_users(asker, dataset, asked_split, MAIN_K)}
    about = _about(shop, dataset, model, asked_split, split) | about
    if cold_start:
        _measure_cold_items(shop, dataset, asked_split, directory, console)
    figures |= {"about": about, "cold_start": cold | {"items": _cold_items(directory, about)}}
    figures = finite(figures)
    figures["verdict"] = verdict(figures)
    page, data = directory / "report.html", directory / "report.json"
    data.write_text(json.dumps(figures, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8")
    page.write_text(render(figures), encoding="utf-8")
    console.print(figures["verdict"])
    console.print(f"report in {page} and {data}")


def _attribute(dataset: Dataset, shop: ShopConfig, wanted: str) -> str | None:
    names = dataset.meta.item_attributes
    known = (*names.categorical, *names.numeric)
    if wanted and wanted not in known:
        raise ConfigError(f"--attribute {wanted}: the items have {', '.join(known) or 'no attributes'}")
    return wanted or next(iter((*shop.features.affinity_attributes, *known)), None)


def _answers(
    asker: Asker,
    dataset: Dataset,
    split: TimeSplit,
    file: Path | None,
    ablation: bool,
    progress: Callable[[str], None],
) -> tuple[Answers, dict[str, Any]]:
    """The lists to judge, and what is to be said of them."""
    from towers.reporting.lists import RankedLists, lists_of, read_table
    from towers.reporting.measure import K_MAX, Answers

    asked = split.evaluation_set
    try:
        new_only = asked.new_only()
    except ValueError:
        new_only = None
    left_out = asker.sources if ablation and len(asker.sources) > 1 else ()
    questions = {"all": asked} if new_only is None else {"all": asked, "new": new_only}
    offline: dict[str, dict[str, RankedLists]] = {}
    for question, who in questions.items():
        if file is None or left_out:
            progress(f"ranking offline, with all sources and without each: {question}")
            offline[question] = asker.ask(who, K_MAX, left_out)
    vectors = asker.recommender.items.vectors
    if file is None:
        notes = ["Ranked offline by the recommender with exact search; --lists judges what a server really answered."]
        unseen = offline["new"][""] if "new" in offline else None
        about = {"lists": "offline", "list_length": K_MAX}
        answers = Answers(offline["all"][""], unseen, offline, vectors)
    else:
        table = read_table(file)
        served, missing = lists_of(table, dataset, asked, "all")
        unseen, missing_new = None, 0
        if new_only is not None and "new" in table["question"]:
            unseen, missing_new = lists_of(table, dataset, new_only, "new")
        notes = ["Judged are the lists that the server answered; what is lost without a source is ranked offline."]
        if missing or missing_new:
            notes.append(f"No list for {missing} users, {missing_new} of those asked for new items: taken as misses.")
        generation = ", ".join(table["generation"].unique().sort())
        about = {"lists": "served", "list_length": served.rows.shape[1], "generation": generation}
        answers = Answers(served, unseen, offline, vectors)
    if asked.exclude_bought:
        notes.append("[ranker] repeats is off: baselines and lists ranked offline leave out what the user had.")
    users_new = None if new_only is None or unseen is None else new_only.user_count
    return answers, about | {"users_new": users_new, "notes": notes}


def _about(shop: ShopConfig, dataset: Dataset, model: TrainedModel, split: TimeSplit, name: Split) -> dict[str, Any]:
    from towers.reporting.measure import moment

    asked = split.evaluation_set
    _, until_s = bounds(shop, dataset, name)
    return {
        "shop": shop.shop.name,
        "split": name.value,
        "asked_at": moment(asked.asked_at_s),
        "until": moment(until_s),
        "days": (until_s - asked.asked_at_s) / DAY_S,
        "horizon_days": model.settings.ranker.horizon_days,
        "users": asked.user_count,
        "candidates": len(asked.candidate_rows),
        "towers_until": moment(model.towers_until_s),
        "ranker_until": moment(model.ranker_until_s),
        "seen_in_training": model.ranker_until_s > asked.asked_at_s,
        "feature_hash": model.feature_hash,
    }


def _measure_cold_items(
    shop: ShopConfig, dataset: Dataset, split: TimeSplit, directory: Path, console: Console
) -> None:
    """Trains without some items, asks for them, and keeps the figures beside the report, or why there are none."""
    from towers.reporting.measure import finite, moment

    try:
        figures = _ask_for_withheld(shop, dataset, split, directory, console)
    except (DataError, ValueError) as error:
        figures = {"note": f"Not measured: {error}."}
    figures["asked_at"] = moment(split.evaluation_set.asked_at_s)
    (directory / COLD_ITEMS_FILE).write_text(json.dumps(finite(figures), indent=1), encoding="utf-8")


def _ask_for_withheld(
    shop: ShopConfig, dataset: Dataset, split: TimeSplit, directory: Path, console: Console
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from rich.progress import Progress

    from towers.commands.train import exact_search
    from towers.reporting.cold_items import cold_items, withhold
    from towers.reporting.measure import MAIN_K
    from towers.training.run import TrainingRun

    withheld = withhold(dataset, split)
    end = datetime.fromtimestamp(split.evaluation_set.asked_at_s, UTC)
    settings = shop.learning
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"train_end": end})})
    with Progress(console=console) as progress:
        run = TrainingRun(withheld.dataset, settings, exact_search, directory / "cold", progress, console.print)
        model = run.run()
    return cold_items(withheld, model, exact_search, MAIN_K)


def _cold_items(directory: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What the last `--cold-start` of this directory found, if it asked as of the same moment."""
    file = directory / COLD_ITEMS_FILE
    if not file.exists():
        return None
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return figures if figures["asked_at"] == about["asked_at"] else None
