"""A shopper's profile by hand: distinct items, newest first, by how new they are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.towers.random_logs import DAY_S, histories_of
from towers.sources.base import SourceInvalid
from towers.sources.profiles import Profiles, profile_array, profile_of, profiles
from towers.sources.settings import ProfileSettings

# Item 2 (twice), then a basket of 0 and 1 on day 8, then 3 on day 9; asked on day 10.
EVENTS = [(2, 1, 2 * DAY_S), (2, 0, 6 * DAY_S), (0, 1, 8 * DAY_S), (1, 1, 8 * DAY_S), (3, 0, 9 * DAY_S)]


def profile(item_count: int = 4, **settings: float) -> dict[int, float]:
    """Item and weight, newest first."""
    batch = histories_of([EVENTS]).batch(np.zeros(1, np.int32), np.array([10 * DAY_S], np.int64), 100)
    found = profiles(batch, ProfileSettings.model_validate(settings), item_count)
    assert found.offsets.tolist() == [0, len(found.item_row)]
    return dict(zip(found.item_row.tolist(), found.weight.tolist(), strict=True))


def test_distinct_items_stand_newest_first() -> None:
    assert list(profile().items()) == [(3, 1), (1, 1), (0, 1), (2, 1)]
    assert list(profile(items_max=3)) == [3, 1, 0]


def test_weights_halve_by_newer_items_and_a_basket_weighs_as_one_moment() -> None:
    assert profile(half_life_items=2) == pytest.approx({3: 1, 1: 0.5**0.5, 0: 0.5**0.5, 2: 0.5**1.5})


def test_weights_halve_by_days_since_the_item_came_last() -> None:
    assert profile(half_life_days=2) == pytest.approx({3: 0.5**0.5, 1: 0.5, 0: 0.5, 2: 0.25})
    assert profile(half_life_days=2, half_life_items=3)[2] == pytest.approx(0.25 * 0.5)


def test_nothing_counts_less_than_a_millionth() -> None:
    assert profile(half_life_items=0.01)[2] == pytest.approx(1e-6)


def test_items_that_the_source_does_not_know_are_passed_over() -> None:
    assert profile(item_count=3, half_life_items=1) == pytest.approx({1: 1, 0: 1, 2: 0.25})


def test_each_shopper_of_a_batch_has_a_profile_of_their_own() -> None:
    log = histories_of([EVENTS, [], [(3, 1, DAY_S), (0, 1, 2 * DAY_S)]])
    batch = log.batch(np.array([2, 1, -1, 0], np.int32), np.full(4, 10 * DAY_S, np.int64), 100)
    found: Profiles = profiles(batch, ProfileSettings(), 4)
    assert found.offsets.tolist() == [0, 2, 2, 2, 6]
    assert found.item_row.tolist() == [0, 3, 3, 1, 0, 2]


def test_settings_come_back_from_their_array() -> None:
    settings = ProfileSettings(items_max=7, half_life_items=1.5, half_life_days=30)
    assert profile_of(profile_array(settings)) == settings


@pytest.mark.parametrize("values", [[1, 2], [0, 0, 0], [1, -1, 0], [np.nan, 0, 0], [np.inf, 0, 0], [1e300, 0, 0]])
def test_an_array_that_is_no_profile_is_refused(values: list[float]) -> None:
    with pytest.raises(SourceInvalid, match="array profile"):
        profile_of(np.array(values))
