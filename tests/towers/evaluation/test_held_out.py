"""Held-out figures against sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from towers.evaluation.held_out import held_out_figures, held_out_question
from towers.ingest.plain import ASKED_AT_S, PlainFiles, ingest_plain, split_plain
from towers.schema import Dataset, load_dataset
from towers.schema.plain import PlainSection, Protocol


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    lines, settings = tmp_path / "log.txt", PlainSection()
    lines.write_text("ann a b c x\nbob c d x\ncem e a x\n", encoding="utf-8")
    files = PlainFiles(lines, Protocol.LEAVE_LAST_OUT)
    ingest_plain(files, split_plain(files, settings), settings, "made", tmp_path / "dataset")
    return load_dataset(tmp_path / "dataset")


def rows(dataset: Dataset, *lists: str) -> np.ndarray:
    ids = dataset.items["item_id"].to_list()
    return np.array([[ids.index(item) if item != "-" else -1 for item in one] for one in lists], np.int32)


def test_figures_are_those_of_the_hand(dataset: Dataset) -> None:
    question = held_out_question(dataset, {"bob": ["a", "b", "e"], "ann": ["d"]}, ASKED_AT_S)
    assert question.user_ids == ["ann", "bob"]
    figures = held_out_figures(rows(dataset, "ed", "ba"), question, (1, 2))
    # ann's one item stands second; bob's three have both places.
    assert figures["recall@1"] == pytest.approx((0 + 1 / 3) / 2)
    assert figures["recall@2"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["ndcg@1"] == pytest.approx((0 + 1) / 2)
    assert figures["ndcg@2"] == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_an_item_that_the_catalogue_does_not_know_is_missed(dataset: Dataset) -> None:
    question = held_out_question(dataset, {"ann": ["x"], "bob": ["a", "y"]}, ASKED_AT_S)
    assert question.stranger_count == 2
    figures = held_out_figures(rows(dataset, "de", "a-"), question, (2,))
    assert figures["recall@2"] == pytest.approx((0 + 1 / 2) / 2)
    assert figures["ndcg@2"] == pytest.approx((0 + 1 / (1 + 1 / np.log2(3))) / 2)


def test_offline_ranking_is_asked_the_same(dataset: Dataset) -> None:
    question = held_out_question(dataset, {"bob": ["a"], "cem": ["x"]}, ASKED_AT_S)
    asked = question.evaluation_set
    assert asked.exclude_bought
    assert asked.asked_at_s == ASKED_AT_S
    assert dataset.users["user_id"].gather(asked.user_rows).to_list() == ["bob", "cem"]
    ids = dataset.items["item_id"].to_list()
    bought = [sorted(ids[row] for row in asked.bought[[place]].indices) for place in range(2)]
    assert bought == [["c", "d"], ["a", "e"]]
