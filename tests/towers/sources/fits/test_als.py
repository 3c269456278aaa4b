"""ALS: a user of the log is folded in as the library itself recalculates them."""

from __future__ import annotations

import numpy as np
from implicit.als import AlternatingLeastSquares

from tests.towers.sources.small_logs import random_log, source_log, source_request
from towers.sources.base import SourceRequest
from towers.sources.fits.als import fit_als
from towers.sources.fits.shoppers import all_histories, matrix_of
from towers.sources.settings import AlsSettings, ProfileSettings

SETTINGS = AlsSettings(
    dimension=6,
    confidence=3.0,
    regularization=0.5,
    counts=True,
    profile=ProfileSettings(half_life_days=50, items_max=8),
)


def test_users_are_folded_in_as_the_library_recalculates_them() -> None:
    log = random_log(5, 60, 25, 20)
    source = fit_als(log, SETTINGS, 7)
    confidences = matrix_of(source.fold_in.own(all_histories(log), 25), 25)
    confidences.data += 1
    library = AlternatingLeastSquares(factors=6, alpha=1.0, regularization=0.5)
    library.item_factors = source.items
    wanted = library.recalculate_user(np.arange(60), confidences)
    asked = source.ask(SourceRequest(all_histories(log), log.users))
    np.testing.assert_allclose(asked.vectors, wanted, rtol=2e-3, atol=1e-4)


def test_one_seed_gives_one_fit_and_another_seed_another() -> None:
    log = random_log(5, 60, 25, 20)
    one, again, other = (fit_als(log, SETTINGS, seed) for seed in (7, 7, 8))
    assert np.array_equal(one.items, again.items)
    assert not np.array_equal(one.items, other.items)


def test_items_of_the_shoppers_kind_come_first() -> None:
    """Two groups of users with items 0 … 4 and 5 … 9: who did two of a group is brought the group's others."""
    random = np.random.default_rng(1)
    users = [[(int(row) + 5 * (user % 2), 1) for row in random.permutation(5)[:3]] for user in range(40)]
    source = fit_als(source_log(users, 10), AlsSettings(dimension=2, regularization=0.1), 0)
    scores = np.zeros((1, 10), np.float32)
    source.ask(source_request([[(6, 2), (8, 1)]])).write_scores(np.arange(10, dtype=np.int32)[None], scores)
    assert scores[0, 5:].min() > scores[0, :5].max() + 0.3
