"""A batch's lists, written by a kernel: what protobuf itself would have written of each."""

from __future__ import annotations

import math
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinrank.v1 import recommendation_pb2 as pb

from index.item_ids import ItemIds
from server.attribution import AttributionToken
from server.catalogue.live_ids import LiveItemIds
from server.domain import BatchTimings, RecommendAnswer, RecommendQuery, RepeatPolicy, Shopper, Source
from server.encoding import encode_recommend
from server.errors import EngineFault
from server.lists import ListColumns
from server.waiting import Answered

IDS = ["apple", "ü" * 70, "x" * 1_000, *(f"item-{row}" for row in range(300))]
TIMINGS = BatchTimings(state_us=1, user_tower_us=2, retrieve_us=3, rank_us=4, batch_size=1)
QUERY = RecommendQuery("home", Shopper("anna"), 1_793_700_000.0, 20, RepeatPolicy.ALLOW)


def columns(lists: list[list[int]], scores: list[list[float]] | None = None) -> ListColumns:
    """The rows of some lists, with scores that differ, and all sources in turn."""
    width = max(map(len, lists), default=0)
    rows = np.full((len(lists), width), -1, np.int32)
    for place, wanted in enumerate(lists):
        rows[place, : len(wanted)] = wanted
    return ListColumns(
        ItemIds.from_ids(IDS),
        rows,
        np.array([len(wanted) for wanted in lists], np.int64),
        np.array(scores, np.float32)
        if scores
        else np.linspace(0.9, 0.1, rows.size, dtype=np.float32).reshape(rows.shape),
        np.resize(np.array([int(source) for source in Source], np.uint32), rows.shape),
    )


def encoded(lists: ListColumns, place: int, request_id: str = "r-1") -> bytes:
    """The response of one of the lists."""
    answer = RecommendAnswer(lists, place, "generation-1", shortfall=False)
    return encode_recommend(request_id, QUERY, Answered(answer, 0.0, TIMINGS), timings=False)


@given(st.lists(st.lists(st.integers(0, len(IDS) - 1), max_size=40), min_size=1, max_size=6))
def test_every_list_is_what_protobuf_would_have_written(wanted: list[list[int]]) -> None:
    lists = columns(wanted)
    for place, rows in enumerate(wanted):
        raw = encoded(lists, place)
        response = pb.RecommendResponse.FromString(raw)
        assert list(response.item_ids) == [IDS[row] for row in rows]
        assert list(response.scores) == lists.scores[place, : len(rows)].tolist()
        assert response.SerializeToString() == raw  # the same fields in the same order, none twice
        token = AttributionToken.decode(response.attribution_token)
        assert token == AttributionToken("r-1", "generation-1", "home", QUERY.request_time_s)


def test_the_source_that_says_most_about_the_shopper_is_named() -> None:
    everything = sum(int(source) for source in Source)
    bits = [0, Source.POPULAR, Source.TWO_TOWER | Source.POPULAR, Source.SIMILAR | Source.TWO_TOWER, everything]
    lists = ListColumns.of([f"item-{place}" for place in range(5)], [0.5] * 5, [int(flags) for flags in bits])
    assert list(pb.RecommendResponse.FromString(encoded(lists, 0)).sources) == [
        pb.CANDIDATE_SOURCE_UNSPECIFIED,
        pb.CANDIDATE_SOURCE_POPULAR,
        pb.CANDIDATE_SOURCE_TWO_TOWER,
        pb.CANDIDATE_SOURCE_SIMILAR,
        pb.CANDIDATE_SOURCE_BUY_AGAIN,
    ]


def test_ids_that_came_while_the_generation_served_are_written_too() -> None:
    ids = LiveItemIds(ItemIds.from_ids(["old-0", "old-1"]))
    ids.add("new-2")
    lists = columns([[2, 0], [1, 1]])
    lists.row_ids = ids
    assert list(pb.RecommendResponse.FromString(encoded(lists, 0)).item_ids) == ["new-2", "old-0"]
    assert list(pb.RecommendResponse.FromString(encoded(lists, 1)).item_ids) == ["old-1", "old-1"]


def test_ids_from_a_file_in_memory_and_added_ones_meet_the_same_machine_code(tmp_path: Path) -> None:
    """A worker that compiles for itself answers nobody for seconds."""
    (tmp_path / "items.ids").write_bytes(ItemIds.from_ids(IDS).to_bytes())
    growing = LiveItemIds(ItemIds.from_ids(["old-0", "old-1"]))
    growing.add("new-2")
    rows = np.array([[2, 0], [1, 1]], np.int32)
    kinds = {
        tuple(numba.typeof(part) for part in row_ids.written(rows))
        for row_ids in (ItemIds.open(tmp_path / "items.ids"), ItemIds.from_ids(IDS), growing)
    }
    assert len(kinds) == 1


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_spoils_its_own_list_alone(score: float) -> None:
    lists = columns([[0, 1], [2, 3]], [[0.5, score], [0.5, 0.25]])
    with pytest.raises(EngineFault, match="finite"):
        encoded(lists, 0)
    assert list(pb.RecommendResponse.FromString(encoded(lists, 1)).scores) == [0.5, 0.25]


@pytest.mark.parametrize("row", [-1, len(IDS)])
def test_a_row_that_no_item_has_is_refused(row: int) -> None:
    lists = columns([[0, row]])
    with pytest.raises(EngineFault, match="no item"):
        encoded(lists, 0)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 items, 1 scores, 2 sources"):
        ListColumns.of(["a", "b"], [0.5], [1, 1])
