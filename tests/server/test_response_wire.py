"""Whole responses, written by a kernel: what is written of each alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinrank.v1 import recommendation_pb2 as pb

from index.item_ids import ItemIds
from server.domain import (
    Answer,
    BatchTimings,
    FilterRefused,
    RecommendAnswer,
    RecommendQuery,
    RepeatPolicy,
    Shopper,
    StateGap,
    UnknownItem,
)
from server.encoding import encode_recommend, encode_recommends
from server.errors import EngineFault, InvalidRequest
from server.lists import ListColumns
from server.waiting import Answered

IDS = ["apple", "ü" * 70, "x" * 1_000, *(f"item-{row}" for row in range(60))]
TIMINGS = BatchTimings(state_us=1, user_tower_us=2, retrieve_us=3, rank_us=4, batch_size=1)
TEXTS = st.text(max_size=20) | st.sampled_from(["r-1", "ü" * 128, "𝄞" * 128, "x" * 127, "x" * 128])


def query(placement: str = "home", request_time_s: float = 1_793_700_000.25) -> RecommendQuery:
    return RecommendQuery(placement, Shopper("anna"), request_time_s, 20, RepeatPolicy.ALLOW)


def lists_of(rows: list[list[int]], score: float = 0.5) -> ListColumns:
    width = max(map(len, rows), default=0)
    padded = np.full((len(rows), width), -1, np.int32)
    for place, wanted in enumerate(rows):
        padded[place, : len(wanted)] = wanted
    scores = np.full(padded.shape, score, np.float32)
    return ListColumns(
        ItemIds.from_ids(IDS),
        padded,
        np.array(list(map(len, rows)), np.int64),
        scores,
        np.ones(padded.shape, np.uint32),
    )


def alone(request_id: str, asked: RecommendQuery, answer: Answer) -> bytes:
    return encode_recommend(request_id, asked, Answered(answer, 0.0, TIMINGS), timings=False)


@given(
    st.lists(
        st.tuples(
            TEXTS,
            st.lists(st.integers(0, len(IDS) - 1), max_size=30),
            st.sampled_from(["home", "cart", "product-page", "ü"]),
            st.floats(0, 2.5e11),
            st.sampled_from(["g", "generation-1", "2026-11-30T12:00:00"]),
            st.booleans(),
            st.sampled_from(list(StateGap)),
        ),
        min_size=1,
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_each_response_is_what_is_written_of_it_alone(
    wanted: list[tuple[str, list[int], str, float, str, bool, StateGap]], random: object
) -> None:
    lists = lists_of([rows for _, rows, *_ in wanted])
    order = list(range(len(wanted)))
    random.shuffle(order)  # type: ignore[attr-defined]
    ids = [wanted[place][0] for place in order]
    queries = [query(wanted[place][2], wanted[place][3]) for place in order]
    answers = [
        RecommendAnswer(lists, place, wanted[place][4], wanted[place][5], gap=wanted[place][6]) for place in order
    ]
    assert encode_recommends(ids, queries, answers) == list(map(alone, ids, queries, answers))


def test_lists_of_several_batches_stand_side_by_side() -> None:
    one, other = lists_of([[0, 1], [2]]), lists_of([[5, 4, 3]])
    answers = [RecommendAnswer(lists, place, "g", shortfall=False) for lists, place in ((other, 0), (one, 1), (one, 0))]
    encoded = encode_recommends(["a", "b", "c"], [query()] * 3, answers)
    assert [list(pb.RecommendResponse.FromString(raw).item_ids) for raw in encoded if isinstance(raw, bytes)] == [
        [IDS[5], IDS[4], IDS[3]],
        [IDS[2]],
        [IDS[0], IDS[1]],
    ]


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_list_that_is_not_fit_fails_alone(score: float) -> None:
    unfit = RecommendAnswer(lists_of([[1]], score), 0, "g", shortfall=False)
    fit = RecommendAnswer(lists_of([[1]]), 0, "g", shortfall=False)
    first, second = encode_recommends(["a", "b"], [query()] * 2, [unfit, fit])
    assert isinstance(first, EngineFault)
    assert second == alone("b", query(), fit)


def test_what_is_no_list_is_the_error_that_it_is_alone() -> None:
    answers: list[Answer] = [FilterRefused("filter", "is not known", "g"), UnknownItem("apple", "g")]
    refused, fault = encode_recommends(["a", "b"], [query()] * 2, answers)
    assert isinstance(refused, InvalidRequest)
    assert isinstance(fault, EngineFault)
    assert "UnknownItem" in str(fault)
    for answer, kind in zip(answers, (InvalidRequest, EngineFault), strict=True):
        with pytest.raises(kind):
            alone("a", query(), answer)


def test_nothing_is_written_of_nothing() -> None:
    assert encode_recommends([], [], []) == []
