"""User-based filtering by hand, and its bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.towers.random_logs import histories_of
from tests.towers.sources.logs import DAY_S, log_of
from towers.sources.base import SourceRequest
from towers.sources.fits.user_user import fit_user_user
from towers.sources.log import SourceLog
from towers.sources.settings import UserUserSettings


def scores(log: SourceLog, settings: UserUserSettings, items: list[int]) -> list[float]:
    """The score of every item for a shopper of the given items, oldest first."""
    histories = histories_of([[(item, 1, place) for place, item in enumerate(items)]])
    batch = histories.batch(np.zeros(1, np.int32), np.array([100 * DAY_S], np.int64), 1_000)
    out = np.zeros((1, log.item_count), np.float32)
    asked = fit_user_user(log, settings).ask(SourceRequest(batch, np.zeros((1, 0), np.int32)))
    asked.write_scores(np.arange(log.item_count, dtype=np.int32)[None], out)
    return [float(score) for score in out[0]]


# User 0: items 0, 1, 2. User 1: items 0 and 3 (0 twice). User 2: item 4. Item 5 nobody's.
LOG = log_of([(0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 0), (1, 4, 3), (1, 5, 0), (2, 1, 4)], 6)
EQUAL = {"weighting": "inverse", "popularity_exponent": 0}


def test_items_of_alike_users_are_summed_by_their_cosine() -> None:
    settings = UserUserSettings.model_validate(EQUAL)
    first, second = 2 / math.sqrt(3 * 2), 1 / math.sqrt(2 * 2)  # the shopper has items 0 and 1
    assert scores(LOG, settings, [0, 1]) == pytest.approx([first + second, first, first, second, 0, 0])


def test_a_rare_item_in_common_says_more() -> None:
    w0, w1, w2 = (math.log1p(3 / count) for count in (2, 1, 1))
    own = math.hypot(w0, w1)
    first = (w0**2 + w1**2) / (own * math.sqrt(w0**2 + w1**2 + w2**2))
    second = w0**2 / (own * math.hypot(w0, w1))
    found = scores(LOG, UserUserSettings(), [0, 1])
    assert found == pytest.approx([first + second, first, first, second, 0, 0], rel=1e-5)
    inverse = UserUserSettings(weighting="inverse", popularity_exponent=0.5)
    first = (0.5 + 1) / (math.sqrt(1.5) * math.sqrt(2.5))
    assert scores(LOG, inverse, [0, 1])[2] == pytest.approx(first)


def test_likeness_and_length_have_their_powers() -> None:
    settings = UserUserSettings.model_validate({**EQUAL, "likeness_power": 2, "length_exponent": 0})
    first, second = (2 / math.sqrt(2)) ** 2, (1 / math.sqrt(2)) ** 2
    assert scores(LOG, settings, [0, 1]) == pytest.approx([first + second, first, first, second, 0, 0])


def test_only_the_most_alike_users_are_summed() -> None:
    settings = UserUserSettings.model_validate({**EQUAL, "neighbours": 1})
    assert np.flatnonzero(scores(LOG, settings, [0, 1])).tolist() == [0, 1, 2]


def test_the_newest_users_of_an_item_are_looked_at() -> None:
    settings = UserUserSettings.model_validate({**EQUAL, "users_per_item_max": 1})
    assert np.flatnonzero(scores(LOG, settings, [0])).tolist() == [0, 3]  # user 1 took item 0 on day 5


def test_the_newest_items_of_a_user_are_kept() -> None:
    settings = UserUserSettings.model_validate({**EQUAL, "items_per_user_max": 1})
    found = scores(LOG, settings, [1])  # user 0's newest item is 2; his length is that of all his items
    assert found == pytest.approx([0, 0, 1 / math.sqrt(3), 0, 0, 0])


def test_items_near_the_newest_common_one_count_more() -> None:
    settings = UserUserSettings.model_validate({**EQUAL, "nearness_half_life": 1})
    whole = 1 / math.sqrt(3)  # user 0 has 2, 1, 0, newest first; the shopper 0 alone
    assert scores(LOG, settings, [0])[:3] == pytest.approx([whole + 1 / math.sqrt(2), whole / 2, whole / 4])
    weighed = UserUserSettings.model_validate({**EQUAL, "nearness_half_life": 1, "profile": {"half_life_items": 1}})
    found = scores(LOG, weighed, [0, 1])  # now beside item 1, which is newer
    assert found[2] == pytest.approx(found[1] / 2)


def test_who_has_nothing_in_common_with_anyone_gets_nothing() -> None:
    assert not any(scores(LOG, UserUserSettings(), [5]))
    assert not any(scores(LOG, UserUserSettings(), []))
