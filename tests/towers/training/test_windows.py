"""Windows of the log: every visit asks once, and sees what its history holds as far as the window reaches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.random_logs import ITEM_COUNT, PURCHASE, VIEW, Asked, asked, histories_of
from towers.features.requests import request_arrays
from towers.learning_data import LearningData
from towers.training.visits import Visits, find_visits
from towers.training.windows import Windows, cut_windows

EVERY_ITEM = np.ones(ITEM_COUNT, np.bool_)
LOG = histories_of(
    [
        [(1, VIEW, 10), (1, PURCHASE, 20), (3, PURCHASE, 20), (2, VIEW, 920), (3, PURCHASE, 4_000), (5, VIEW, 5_000)],
        [],
        [(5, VIEW, 30)],
        [(4, PURCHASE, 50)],
        [(6, PURCHASE, 1), (5, PURCHASE, 2), (4, PURCHASE, 3), (3, PURCHASE, 4), (2, PURCHASE, 5), (1, PURCHASE, 6)],
    ]
)


def data_of(log: object) -> LearningData:
    return cast(LearningData, SimpleNamespace(histories=log, item_count=ITEM_COUNT))


def visits_of(log: object) -> Visits:
    return find_visits(data_of(log), EVERY_ITEM, only_new=False)


def cut(length: int, seed: int = 0) -> tuple[Visits, Windows]:
    visits = visits_of(LOG)
    chosen = np.arange(len(visits))
    return visits, cut_windows(visits, chosen, LOG, length, np.random.default_rng(seed))


def test_a_user_who_fits_is_one_window_that_ends_where_the_newest_visit_asks() -> None:
    visits, windows = cut(length=8)
    assert visits.start.tolist() == [1, 4, 7, 8, 9, 10, 11, 12, 13]
    assert windows.begin.tolist() == [0, 7, 8]
    assert windows.end.tolist() == [4, 8, 13]
    assert windows.offsets.tolist() == [0, 2, 3, 9]
    assert windows.asks_at.tolist() == [0, 3, -1, -1, 8, 9, 10, 11, 12]
    assert windows.columns(8)[0].tolist() == [0, 0, 1, 2, 2, 2, 2, 2, 2]
    assert windows.columns(8)[1].tolist() == [4, 7, -1, -1, 3, 4, 5, 6, 7]


def test_sequences_hold_the_events_and_the_gaps_to_what_followed() -> None:
    rows, kinds, gaps = cut(length=5)[1].take(np.array([0])).sequences(LOG, 5)
    assert rows.tolist() == [[-1, 1, 1, 3, 2]]
    assert kinds.tolist() == [[0, VIEW, PURCHASE, PURCHASE, VIEW]]
    assert gaps.tolist() == [[0, 0, 0, 1, 2]]  # 10 s, 0 s, 15 minutes, 51 minutes


def test_a_long_user_has_several_windows_that_move_from_epoch_to_epoch() -> None:
    cuts = {tuple(cut(length=2, seed=seed)[1].begin[-4:].tolist()) for seed in range(20)}
    assert len(cuts) == 2


def test_windows_are_taken_with_their_visits() -> None:
    _, windows = cut(length=8)
    taken = windows.take(np.array([2, 0]))
    assert taken.begin.tolist() == [8, 0]
    assert taken.offsets.tolist() == [0, 6, 8]
    assert taken.visit.tolist() == [3, 4, 5, 6, 7, 8, 0, 1]
    assert taken.asks_at.tolist() == [-1, 8, 9, 10, 11, 12, 0, 3]


@pytest.mark.parametrize(("size", "most"), [(1, 9), (3, 3), (100, 1)])
def test_batches_hold_every_visit_once(size: int, most: int) -> None:
    _, windows = cut(length=8)
    batches = windows.batches(size, np.random.default_rng(1))
    assert 1 <= len(batches) <= most
    assert sorted(np.concatenate([batch.visit for batch in batches]).tolist()) == list(range(9))
    assert all(len(batch) for batch in batches)


def test_batches_come_in_another_order_each_time() -> None:
    _, windows = cut(length=1)
    orders = {
        tuple(np.concatenate([b.visit for b in windows.batches(2, np.random.default_rng(seed))]).tolist())
        for seed in range(5)
    }
    assert len(orders) > 1


def test_no_visits_are_no_windows() -> None:
    visits = visits_of(LOG)
    windows = cut_windows(visits, np.zeros(0, np.int64), LOG, 4, np.random.default_rng(0))
    assert len(windows) == 0


@given(case=asked(), length=st.integers(1, 5), seed=st.integers(0, 100))
def test_a_visit_sees_the_end_of_the_history_that_serving_would_read(case: Asked, length: int, seed: int) -> None:
    log = case.log
    visits = visits_of(log)
    chosen = np.flatnonzero(np.random.default_rng(seed).random(len(visits)) < 0.7)
    windows = cut_windows(visits, chosen, log, length, np.random.default_rng(seed))
    assert windows.visit.tolist() == chosen.tolist()
    assert ((windows.end - windows.begin >= 1) & (windows.end - windows.begin <= length)).all()
    rows, kinds, gaps = windows.sequences(log, length)
    served = request_arrays(
        visits.histories(data_of(log), chosen, 1_000),
        length,
        np.zeros(len(chosen), np.int32),
        np.zeros((len(chosen), 0), np.int32),
        np.zeros((len(chosen), 0), np.int32),
        "next",
    )
    for place, (window, column) in enumerate(zip(*windows.columns(length), strict=True)):
        seen = rows[window, : column + 1]
        count = int((seen >= 0).sum())
        assert (count == 0) == (windows.asks_at[place] < 0) == (served.item_row[place, -1] < 0)
        for read, expected in ((rows, served.item_row), (kinds, served.event_type), (gaps, served.gap_bucket)):
            here = read[window, column + 1 - count : column + 1]
            assert here.tolist() == expected[place, length - count :].tolist()
