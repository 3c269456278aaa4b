"""BPR over profiles: what it learns, and that a seed fixes it."""

from __future__ import annotations

import numpy as np

from tests.towers.sources.small_logs import random_log, source_log, source_request
from towers.sources.fits.bpr import fit_bpr
from towers.sources.log import SourceLog
from towers.sources.settings import BprSettings

SETTINGS = BprSettings(dimension=4, epochs=40, step=0.2)


def two_groups() -> SourceLog:
    """Users of even rows did three of the items 0 … 4, the others three of 5 … 9; nobody did item 10."""
    random = np.random.default_rng(1)
    return source_log([[(int(row) + 5 * (user % 2), 1) for row in random.permutation(5)[:3]] for user in range(60)], 11)


def scores_of(log: SourceLog, settings: BprSettings, did: list[tuple[int, int]]) -> np.ndarray:
    asked, rows = fit_bpr(log, settings, 0).ask(source_request([did])), np.arange(log.item_count, dtype=np.int32)
    out = np.zeros((1, log.item_count), np.float32)
    asked.write_scores(rows[None], out)
    return out[0]


def test_a_shopper_of_one_group_is_brought_its_items() -> None:
    scores = scores_of(two_groups(), SETTINGS, [(6, 2), (8, 1)])
    assert min(scores[[5, 7, 9]]) > max(*scores[:5], 0.5)


def test_items_that_nobody_did_have_no_score() -> None:
    assert scores_of(two_groups(), SETTINGS, [(6, 2), (8, 1)])[10] == 0


def test_one_step_by_hand() -> None:
    """One user of items 0 and 1, one of item 2 alone; 2 is all that can be drawn against 0 and 1."""
    log = source_log([[(1, 2), (0, 1)], [(2, 1)]], 3)
    settings = BprSettings(dimension=2, epochs=1, negatives=1, step=0.5, regularization=0.1, length_exponent=1)
    random = np.random.default_rng(9)
    p, q = (random.normal(scale=0.1 / np.sqrt(2), size=(3, 2)).astype(np.float32) for _ in range(2))
    start, pull, keep = p.copy(), np.zeros(2), 1 - 0.5 * 0.1
    for item, other in ((0, 1), (1, 0)):  # newest first; the user is what the other item brings
        user = start[other]
        force = 0.5 / (1 + np.exp(user @ (q[item] - q[2])))
        pull += force * (q[item] - q[2])
        q[item], q[2] = keep * q[item] + force * user, keep * q[2] - force * user
    p[:2] = keep * p[:2] + pull
    found = fit_bpr(log, settings, 9)
    np.testing.assert_allclose(found.items, q, rtol=1e-5)
    np.testing.assert_allclose(found.brings, p, rtol=1e-5)


def test_one_seed_gives_one_fit_and_another_seed_another() -> None:
    log = random_log(5, 60, 25, 20)
    one, again, other = (fit_bpr(log, SETTINGS, seed) for seed in (7, 7, 8))
    assert np.array_equal(one.brings, again.brings)
    assert np.array_equal(one.items, again.items)
    assert not np.array_equal(one.items, other.items)


def test_a_user_of_every_item_is_passed_over() -> None:
    source = fit_bpr(source_log([[(row, 1) for row in range(3)]], 3), SETTINGS, 0)
    assert np.isfinite(source.items).all()
