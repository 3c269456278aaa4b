"""Trending items and segments by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.towers.random_logs import histories_of
from tests.towers.sources.logs import log_of
from towers.sources.base import SourceRequest
from towers.sources.fits.segment import fit_segment
from towers.sources.fits.trending import fit_trending
from towers.sources.fixed_lists import FixedLists
from towers.sources.settings import SegmentSettings, TrendingSettings


def listed(lists: FixedLists, place: int = 0) -> dict[int, float]:
    """Row and score of one list, best first."""
    span = slice(lists.offsets[place], lists.offsets[place + 1])
    return dict(zip(lists.rows[span].tolist(), lists.weights[span].tolist(), strict=True))


def test_a_rise_is_counted_in_deviations_of_what_was_expected() -> None:
    # The last 10 days are 90 to 99, the 20 before them 70 to 89.
    events = [
        *[(user, 95, 0) for user in range(4)],  # from nothing to four
        *[(user, 90, 1) for user in range(3)],
        *[(user, 89, 1) for user in range(4)],  # 3 where 4 · 10 / 20 = 2 were expected
        *[(user, 95, 2) for user in range(2)],
        *[(user, 70, 2) for user in range(6)],  # falls
        *[(0, day, 3) for day in range(90, 100)],  # one user, ten times
        *[(user, 69, 0) for user in range(5)],  # too long ago
    ]
    found = listed(fit_trending(log_of(events, 5), TrendingSettings(window_days=10, before_days=20, smoothing=2)))
    expected = {0: 4 / math.sqrt(2), 3: 1 / math.sqrt(2), 1: 1 / math.sqrt(4)}
    assert list(found) == [0, 3, 1]
    assert found == pytest.approx(expected)
    short = fit_trending(log_of(events, 5), TrendingSettings(window_days=10, before_days=20, smoothing=2, depth=1))
    assert list(listed(short)) == [0]


USERS = [[1, 1], [1, 2], [1, 1], [2, 1], [0, 1]]
"""Ages and homes; the last user's age is unknown."""
EVENTS = [(0, 1, 0), (0, 2, 0), (1, 1, 0), (1, 1, 1), (2, 9, 1), (3, 1, 2), (4, 1, 2), (3, 9, 0)]


def segments(**settings: object) -> FixedLists:
    log = log_of(EVENTS, 4, until_day=10, users=USERS, user_attributes=("age", "home"))
    return fit_segment(log, SegmentSettings.model_validate({"attributes": ["age"], "users_min": 1, **settings}))


def test_a_segment_is_listed_by_the_share_of_its_users() -> None:
    found = segments(smoothing=0)
    assert found.codes.tolist() == [[1], [2]]
    assert listed(found) == pytest.approx({0: 3 / 5, 1: 2 / 5, 2: 2 / 5})  # everyone's
    assert listed(found, 1) == pytest.approx({0: 2 / 3, 1: 2 / 3})
    assert listed(found, 2) == pytest.approx({0: 1, 2: 1})
    smooth = segments(smoothing=5)
    assert listed(smooth, 2) == pytest.approx({0: (1 + 3) / 6, 2: (1 + 2) / 6, 1: 2 / 6})


def test_a_segment_of_few_users_has_no_list() -> None:
    assert segments(users_min=2).codes.tolist() == [[1]]


def test_several_attributes_make_a_segment_together() -> None:
    found = segments(attributes=["home", "age"], smoothing=0)
    assert found.codes.tolist() == [[1, 1], [1, 2], [2, 1]]
    assert listed(found, 3) == pytest.approx({0: 1, 1: 1})


def test_only_the_last_days_count_where_that_is_asked() -> None:
    assert listed(segments(window_days=2, smoothing=0)) == pytest.approx({0: 1 / 2, 1: 1 / 2})


def test_users_are_answered_by_their_segment_and_others_with_everyone_s() -> None:
    found = segments(smoothing=0)
    attributes = np.array([[2, 1], [1, 1], [0, 1], [7, 1]], np.int32)
    batch = histories_of([[]]).batch(np.full(4, -1, np.int32), np.ones(4, np.int64), 10)
    out = np.zeros((4, 3), np.float32)
    found.ask(SourceRequest(batch, attributes)).write_scores(np.tile(np.arange(3, dtype=np.int32), (4, 1)), out)
    np.testing.assert_allclose(out, [[1, 0, 1], [2 / 3, 2 / 3, 0], [0.6, 0.4, 0.4], [0.6, 0.4, 0.4]], rtol=1e-6)


def test_an_attribute_that_users_do_not_have_is_named() -> None:
    with pytest.raises(ValueError, match=r"sources.segment.attributes: users have no \['income'\]"):
        segments(attributes=["age", "income"])
