from __future__ import annotations

import numpy as np
import pytest

from towers.evaluation.ratings import fit_biases, rating_rmse
from towers.schema import Dataset


def test_biases_are_damped_towards_the_mean() -> None:
    # Two ratings of item 0 by two users, mean 4: deviations +1 and -1 cancel for the item, each user keeps 1 / (1 + 5).
    biases = fit_biases(np.array([0, 1], np.int32), np.array([0, 0], np.int32), np.array([5.0, 3.0]), 3, 2)
    assert biases.mean == 4.0
    np.testing.assert_allclose(biases.item, [0.0, 0.0])
    np.testing.assert_allclose(biases.user, [1 / 6, -1 / 6, 0.0])
    np.testing.assert_allclose(biases.predict(np.array([0, 2], np.int32), np.array([1, 0], np.int32)), [4 + 1 / 6, 4.0])


def test_without_a_rating_there_is_nothing_to_learn() -> None:
    none = np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="no rating"):
        fit_biases(none, none, np.zeros(0), 1, 1)


def test_the_small_shops_later_ratings_are_judged(small_dataset: Dataset) -> None:
    events = small_dataset.events
    rated = np.flatnonzero(~np.isnan(events.rating))
    middle = int(np.median(events.time_s[rated]))
    judged = rating_rmse(small_dataset, middle)
    assert judged is not None
    assert judged["ratings"] == (events.time_s[rated] >= middle).sum()
    assert 0 < judged["rmse_of_mean"] < 5


def test_a_time_after_every_rating_leaves_nothing_to_judge(small_dataset: Dataset) -> None:
    assert rating_rmse(small_dataset, small_dataset.meta.last_time_s + 1) is None
