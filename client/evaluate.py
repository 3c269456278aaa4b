"""`python -m client.evaluate CONFIG`: the served evaluation. Asks the running server over gRPC for every test user.

This is the one that counts: it judges the list that a shop would show, after retrieval, ranking and transport.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from twinrank_client import CandidateSource, Client, DegradedReason, Recommendations, RecommendRequest, RepeatPolicy

from client.served_lists import ask_for_users
from towers.evaluation import Comparison, EvaluationSet, TimeSplit, compare
from towers.reporting.lists import SOURCE_BIT_OF, RankedLists, lists_table, write_lists
from towers.reporting.splits import Split, split_of
from towers.schema import DataError, Dataset, ShopConfig, load_dataset, read_shop_config

PAGE_SIZE = 50
PAGE_SIZE_OF_LISTS = 100  # the report's curves run to 100
CUTOFFS = (5, 10, 20, 50)
LISTS_SUFFIXES = (".parquet", ".json")


def evaluate(
    config: Annotated[Path, typer.Argument(help="The shop's TOML file.")],
    target: Annotated[str, typer.Option(help="host:port of a server that allows replay.")] = "127.0.0.1:50051",
    out: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
    lists: Annotated[
        Path | None,
        typer.Option(help="Where to keep the lists, .parquet or .json, for python -m towers report --lists."),
    ] = None,
    split_name: Annotated[Split, typer.Option("--split", help="The time that is asked about.")] = Split.TEST,
) -> None:
    """Judge what the server answers as of the split's beginning, beside every baseline on the same users."""
    if lists is not None and lists.suffix not in LISTS_SUFFIXES:
        raise typer.BadParameter(f"--lists {lists}: the file's name must end in {' or '.join(LISTS_SUFFIXES)}")
    shop = read_shop_config(config)
    console = Console(soft_wrap=True)
    dataset = load_dataset(shop.dataset_dir)
    try:
        split = split_of(shop, dataset, split_name)
    except DataError as error:
        raise typer.BadParameter(str(error)) from error
    with Client(target, timeout_s=30) as client, console.status("asking") as status:
        served = ask_everybody(
            client, dataset, split, status.update, PAGE_SIZE if lists is None else PAGE_SIZE_OF_LISTS
        )
        tables = compare_served(split, served, status.update)
    if lists is not None:
        write_lists(lists, pl.concat(answers.table(dataset, name) for name, answers in served.items()))
    for table in tables:
        console.print(table.table())
    if out is not None:
        out.write_text(json.dumps(figures(*tables), indent=1), encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Served:
    """What the server answered to one question: lists (U, K), and the generation they came from."""

    asked: EvaluationSet
    lists: RankedLists
    generation_id: str

    def table(self, dataset: Dataset, question: str) -> pl.DataFrame:
        """The rows of a file of lists."""
        return lists_table(dataset, self.asked, question, self.lists, self.generation_id)


def judge(client: Client, shop: ShopConfig, dataset: Dataset, progress: Any) -> tuple[Comparison, Comparison]:
    """Asks for every test user twice, all items and new only, and compares with the baselines."""
    split = test_split(shop, dataset)
    return compare_served(split, ask_everybody(client, dataset, split, progress), progress)


def ask_everybody(
    client: Client, dataset: Dataset, split: TimeSplit, progress: Any, page_size: int = PAGE_SIZE
) -> dict[str, Served]:
    """The answers to the two questions, "all" items and "new" ones only."""
    progress("asking the server")
    questions = {"all": split.evaluation_set, "new": split.evaluation_set.new_only()}
    return {name: answered_lists(client, dataset, asked, page_size) for name, asked in questions.items()}


def compare_served(split: TimeSplit, served: dict[str, Served], progress: Any) -> tuple[Comparison, Comparison]:
    """Beside every baseline on the same users."""
    everything, new_only = (served[name].lists.rows for name in ("all", "new"))
    return compare(split, {"served": everything}, {"served": new_only}, CUTOFFS, progress)


def test_split(shop: ShopConfig, dataset: Dataset) -> TimeSplit:
    """Learned before [training] train_end, asked from then on."""
    return split_of(shop, dataset, Split.TEST)


def answered_lists(client: Client, dataset: Dataset, asked: EvaluationSet, page_size: int) -> Served:
    """`page_size` items of every user as the server ranks them, with their scores and all sources that brought them."""
    row_of = {item_id: row for row, item_id in enumerate(dataset.items["item_id"].to_list())}
    user_ids = dataset.users["user_id"].gather(asked.user_rows).to_list()
    out = RankedLists.empty(asked.user_count, page_size)
    generations: set[str] = set()

    def take(place: int, answer: Recommendations) -> None:
        width = slice(len(answer))
        out.rows[place, width] = [row_of[item_id] for item_id in answer.item_ids]
        out.scores[place, width] = answer.scores
        out.sources[place, width] = [_bits(explained.sources) for explained in answer.explanations]
        generations.add(answer.generation_id)

    request = RecommendRequest(
        request_time=datetime.fromtimestamp(asked.asked_at_s, UTC),
        page_size=page_size,
        repeat_policy=RepeatPolicy.EXCLUDE_BOUGHT if asked.exclude_bought else RepeatPolicy.ALLOW,
        explain=True,
    )
    ask_for_users(client, user_ids, request, take, accepted=(DegradedReason.SHORTFALL,))
    return Served(asked, out, ", ".join(sorted(generations)))


def _bits(sources: Iterable[CandidateSource]) -> int:
    return sum(SOURCE_BIT_OF.get(source.name.lower(), 0) for source in sources)


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
