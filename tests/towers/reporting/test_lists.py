"""Served lists survive the way through the file, and a file that answers other questions is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from towers.evaluation import EvaluationSet, split_by_time, target_interactions
from towers.reporting.lists import ListsInvalid, RankedLists, lists_of, lists_table, read_table, write_lists
from towers.schema import Dataset

DAY_S = 86_400


@pytest.fixture
def questions(small_dataset: Dataset) -> EvaluationSet:
    interactions = target_interactions(small_dataset)
    return split_by_time(
        interactions, train_end_s=small_dataset.meta.last_time_s - 20 * DAY_S, item_users_min=1
    ).evaluation_set


def drawn(user_count: int) -> RankedLists:
    lists = RankedLists.empty(user_count, 3)
    lists.rows[:] = [4, 0, 2]
    lists.rows[1, 2] = -1
    lists.scores[:] = [0.5, 0.25, 0.125]
    lists.scores[1, 2] = np.nan
    lists.sources[:] = [1, 2 | 4, 1]
    lists.sources[1, 2] = 0
    return lists


@pytest.mark.parametrize("name", ["lists.parquet", "lists.json"])
def test_lists_come_back_as_they_were(
    name: str, small_dataset: Dataset, questions: EvaluationSet, tmp_path: Path
) -> None:
    lists = drawn(questions.user_count)
    write_lists(tmp_path / name, lists_table(small_dataset, questions, "all", lists, "g1"))
    table = read_table(tmp_path / name)
    assert table["generation"].unique().to_list() == ["g1"]
    assert table.row(0, named=True)["sources"] == "two_tower"
    found, missing = lists_of(table, small_dataset, questions, "all")
    assert missing == 0
    np.testing.assert_array_equal(found.rows, lists.rows)
    np.testing.assert_array_equal(found.scores, lists.scores)
    np.testing.assert_array_equal(found.sources, lists.sources)


def test_users_without_a_list_are_counted_and_strangers_left_out(
    small_dataset: Dataset, questions: EvaluationSet
) -> None:
    table = lists_table(small_dataset, questions, "all", drawn(questions.user_count), "g1")
    first = small_dataset.users["user_id"][int(questions.user_rows[0])]
    renamed = table.with_columns(user=pl.col("user").replace({first: "somebody else"}))
    found, missing = lists_of(renamed, small_dataset, questions, "all")
    assert missing == 1
    assert found.rows[0].tolist() == [-1, -1, -1]
    assert found.rows[2].tolist() == [4, 0, 2]


def test_lists_of_another_moment_question_or_shop_are_refused(small_dataset: Dataset, questions: EvaluationSet) -> None:
    table = lists_table(small_dataset, questions, "all", drawn(questions.user_count), "g1")
    later = replace(questions, asked_at_s=questions.asked_at_s + 1)
    with pytest.raises(ListsInvalid, match=r"'all' were asked at \['2026-10-.*:48\+00:00'\], not at 2026-10-.*:49"):
        lists_of(table, small_dataset, later, "all")
    with pytest.raises(ListsInvalid, match=r"'new' were asked at \[\]"):
        lists_of(table, small_dataset, questions, "new")
    with pytest.raises(ListsInvalid, match="items that the dataset does not know, such as nothing"):
        lists_of(table.with_columns(item=pl.lit("nothing")), small_dataset, questions, "all")
    with pytest.raises(ListsInvalid, match="stands twice"):
        lists_of(table.with_columns(rank=pl.lit(1, pl.Int64)), small_dataset, questions, "all")
    with pytest.raises(ListsInvalid, match="none of the"):
        lists_of(table.with_columns(user=pl.lit("nobody")), small_dataset, questions, "all")


def test_a_file_that_holds_no_lists_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListsInvalid, match=r"lists.csv: lists are written as .parquet or .json, not as .csv"):
        write_lists(tmp_path / "lists.csv", pl.DataFrame())
    (tmp_path / "lists.json").write_text("no json")
    with pytest.raises(ListsInvalid, match=r"lists.json: no file of lists"):
        read_table(tmp_path / "lists.json")
    pl.DataFrame({"user": ["a"]}).write_parquet(tmp_path / "lists.parquet")
    with pytest.raises(ListsInvalid, match=r"lists.parquet: no file of lists"):
        read_table(tmp_path / "lists.parquet")
    with pytest.raises(ListsInvalid, match=r"missing.parquet: no file of lists"):
        read_table(tmp_path / "missing.parquet")
