from __future__ import annotations

from math import log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.random_logs import DAY_S, ITEM_COUNT, PURCHASE, VIEW, Asked, asked, histories_of
from towers.features.histories import Histories
from towers.features.item_statistics import STATISTIC_NAMES, item_statistics

NOW = 100 * DAY_S


def on_day(day: int) -> int:
    return day * DAY_S


SHOP = histories_of(
    [
        [(0, PURCHASE, on_day(30)), (0, PURCHASE, on_day(80)), (0, PURCHASE, on_day(80)), (2, PURCHASE, NOW)],
        [(1, PURCHASE, on_day(10)), (0, PURCHASE, on_day(95))],
        [(1, VIEW, on_day(99)), (3, PURCHASE, on_day(101))],
    ]
)


def test_statistics_of_an_item_are_those_computed_by_hand() -> None:
    values = item_statistics(SHOP, 4, NOW).values
    assert dict(zip(STATISTIC_NAMES, values[0].tolist(), strict=True)) == pytest.approx(
        {
            "log_buyers": log1p(2),
            "log_recent_28d": log1p(2),
            "log_recent_7d": log1p(1),
            "trend": log1p(2) - log1p(1 / 2),  # one buyer between 28 and 84 days ago
            "rebuyer_share": 1 / (2 + 5),
            "log_interval_days": log1p(50),
            "log_age_days": log1p(70),
            "log_recent_14d": log1p(1),
            "trend_14d": log1p(1) - log1p(1),  # another one between 14 and 28 days ago
            "log_recent_60d": log1p(2),
            "rebought_30d_share": 0,  # asked of the visit 70 days ago alone, which the next followed 50 days later
            "log_first_buyers_28d": log1p(1),
            "first_buyers_share": 1 / (2 + 3),
        },
        rel=1e-6,
    )
    assert dict(zip(STATISTIC_NAMES, values[1].tolist(), strict=True)) == pytest.approx(
        {
            "log_buyers": log1p(1),
            "log_recent_28d": 0,
            "log_recent_7d": 0,
            "trend": 0,
            "rebuyer_share": 0,
            "log_interval_days": log1p(90),
            "log_age_days": log1p(90),
            "log_recent_14d": 0,
            "trend_14d": 0,
            "log_recent_60d": 0,
            "rebought_30d_share": 0,
            "log_first_buyers_28d": 0,
            "first_buyers_share": 0,
        },
        rel=1e-6,
    )


def test_an_item_that_nobody_bought_yet_has_zeros_and_the_default_interval() -> None:
    values = item_statistics(SHOP, 4, NOW).values
    for item in (2, 3):  # bought at the moment itself, and after it
        assert values[item].tolist() == pytest.approx([0, 0, 0, 0, 0, log1p(90), *[0] * 7])


def test_a_visit_is_bought_again_when_the_same_users_next_one_follows_within_30_days() -> None:
    first = [(0, PURCHASE, on_day(day)) for day in (40, 40, 70, 101)]  # 30 and 31 days apart
    second = [(0, PURCHASE, on_day(day)) for day in (21, 25, 129, 140)]  # the first two are too old to be asked of
    values = item_statistics(histories_of([first, second]), 1, on_day(150)).values[0]
    shares = dict(zip(STATISTIC_NAMES, values.tolist(), strict=True))
    assert shares["rebought_30d_share"] == pytest.approx(
        1 / (3 + 5)
    )  # of days 40, 70 and 101; 129 and 140 are too young


def test_popularity_is_the_share_of_buyers_in_the_last_28_days() -> None:
    assert item_statistics(SHOP, 4, NOW).popularity.tolist() == [2 / 2, 0, 0, 0]


def test_before_the_first_event_nothing_is_known() -> None:
    statistics = item_statistics(SHOP, 4, 0)
    assert not statistics.popularity.any()
    assert np.isfinite(statistics.values).all()


@given(asked(), st.integers(0, 13), st.data())
def test_events_at_or_after_the_moment_change_nothing(case: Asked, step: int, data: st.DataObject) -> None:
    as_of_s = 1_000_000 + step * 200_000
    later = data.draw(
        st.lists(st.tuples(st.integers(0, ITEM_COUNT - 1), st.sampled_from([VIEW, PURCHASE]), st.integers(0, 10**7)))
    )
    log = case.log
    past: list[list[tuple[int, int, int]]] = []
    for begin, end in zip(log.offsets[:-1].tolist(), log.offsets[1:].tolist(), strict=True):
        columns = (log.item_row, log.event_type, log.time_s)
        events = zip(*(column[begin:end].tolist() for column in columns), strict=True)
        past.append([event for event in events if event[2] < as_of_s])
    future = sorted((item, kind, as_of_s + wait) for item, kind, wait in later)
    with_future: list[list[tuple[int, int, int]]] = [
        [*events, *sorted(future, key=lambda event: event[2])] for events in past
    ]
    _assert_same(histories_of(past), histories_of(with_future), as_of_s)


def _assert_same(first: Histories, second: Histories, as_of_s: int) -> None:
    one, other = item_statistics(first, ITEM_COUNT, as_of_s), item_statistics(second, ITEM_COUNT, as_of_s)
    assert one.values.tobytes() == other.values.tobytes()
    assert one.popularity.tobytes() == other.popularity.tobytes()
