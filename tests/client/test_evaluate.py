"""The served evaluation: every user is asked as of the split's moment, and the lists are kept as they were answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import typer
from twinrank_client import CandidateSource, Explanation, Recommendations, RecommendRequest, RepeatPolicy

from client.evaluate import ask_everybody, evaluate
from client.served_lists import REQUESTS_PER_CALL
from towers.evaluation import TimeSplit, split_by_time, target_interactions
from towers.reporting.lists import lists_of
from towers.schema import Dataset

SOURCES = (CandidateSource.TWO_TOWER, CandidateSource.ITEM_ITEM)


class Server:
    """Answers items 0, 1, … to everybody, as many as the place of the user in the dataset modulo 3, plus one."""

    def __init__(self, dataset: Dataset) -> None:
        self.items = dataset.items["item_id"].to_list()
        self.users = dataset.users["user_id"].to_list()
        self.asked: list[RecommendRequest] = []

    def batch_recommend(self, requests: Sequence[RecommendRequest]) -> list[Recommendations]:
        assert len(requests) <= REQUESTS_PER_CALL
        self.asked += requests
        return [self.answer(self.users.index(request.user_id) % 3 + 1) for request in requests]

    def answer(self, count: int) -> Recommendations:
        explanation = Explanation(SOURCES, similarity=0.0, times_bought=0.0, days_since_bought=-1.0)
        return Recommendations(
            item_ids=tuple(self.items[:count]),
            scores=tuple(0.5 / (place + 1) for place in range(count)),
            sources=(CandidateSource.TWO_TOWER,) * count,
            explanations=(explanation,) * count,
            generation_id="g1",
        )


@pytest.fixture
def split(small_dataset: Dataset) -> TimeSplit:
    return split_by_time(
        target_interactions(small_dataset), train_end_s=small_dataset.meta.last_time_s - 20 * 86_400, item_users_min=1
    )


def test_everybody_is_asked_both_questions_and_the_lists_are_kept(small_dataset: Dataset, split: TimeSplit) -> None:
    server = Server(small_dataset)
    served = ask_everybody(server, small_dataset, split, lambda _: None, page_size=7)  # type: ignore[arg-type]
    everything, new_only = split.evaluation_set, split.evaluation_set.new_only()
    assert len(server.asked) == everything.user_count + new_only.user_count
    first, last = server.asked[0], server.asked[-1]
    assert (first.repeat_policy, last.repeat_policy) == (RepeatPolicy.ALLOW, RepeatPolicy.EXCLUDE_BOUGHT)
    assert first.request_time == datetime.fromtimestamp(everything.asked_at_s, UTC)
    assert (first.page_size, first.explain) == (7, True)
    for name, asked in (("all", everything), ("new", new_only)):
        lists, missing = lists_of(served[name].table(small_dataset, name), small_dataset, asked, name)
        assert missing == 0
        counts = asked.user_rows % 3 + 1
        for place, count in enumerate(counts):
            assert lists.rows[place].tolist() == [*range(count), *[-1] * (counts.max() - count)]
        np.testing.assert_allclose(lists.scores[counts == 3], [[0.5, 0.25, 0.5 / 3]] * (counts == 3).sum(), rtol=1e-6)
        assert set(np.unique(lists.sources)) <= {0, 1 | 16}  # two_tower and item_item
        assert served[name].generation_id == "g1"


def test_a_file_of_another_kind_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(typer.BadParameter, match=r"must end in .parquet or .json"):
        evaluate(Path("nothing.toml"), lists=Path("lists.csv"))
