from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.towers.random_logs import DAY_S, PURCHASE, VIEW, Asked, asked, histories_of
from towers.features.purchases import Purchases
from towers.features.rhythms import Rhythms

NOW = 100 * DAY_S


def rhythms(events: list[tuple[int, int, int]]) -> Rhythms:
    batch = Asked(histories_of([events]), [0], [NOW], [None]).batch()
    return Rhythms.of(batch, Purchases.of(batch))


def days_ago(days: float) -> int:
    return NOW - int(days * DAY_S)


def test_visits_are_moments_whatever_lies_in_the_basket() -> None:
    """Visits 30, 20, 10 and 5 days ago; item 2 in the second and third, item 4 in all, views are no visits."""
    found = rhythms(
        [
            (4, PURCHASE, days_ago(30)),
            (2, PURCHASE, days_ago(20)),
            (2, PURCHASE, days_ago(20)),
            (4, PURCHASE, days_ago(20)),
            (2, VIEW, days_ago(15)),
            (2, PURCHASE, days_ago(10)),
            (4, PURCHASE, days_ago(10)),
            (4, PURCHASE, days_ago(5)),
            (3, VIEW, days_ago(1)),
        ]
    )
    assert found.visits_since.tolist() == [1, 0]
    assert found.visit_share.tolist() == pytest.approx([2 / 3, 1])
    assert found.short.tolist() == pytest.approx([2**-4 + 2**-2, 2**-6 + 2**-4 + 2**-2 + 2**-1])
    assert found.long[0] == pytest.approx(2 ** (-20 / 150) + 2 ** (-10 / 150))


@given(case=asked())
def test_a_batch_is_its_single_requests_and_the_columns_keep_their_bounds(case: Asked) -> None:
    batch = case.batch()
    purchases = Purchases.of(batch)
    found = Rhythms.of(batch, purchases)
    assert ((found.visit_share > 0) & (found.visit_share <= 1)).all()
    assert (found.visits_since >= 0).all()
    assert (found.short <= purchases.decayed_fast + 1e-4).all()
    assert (found.long >= purchases.decayed_slow - 1e-4).all()
    for request in range(len(batch)):
        own = slice(batch.offsets[request], batch.offsets[request + 1])
        one = type(batch)(
            np.array([0, own.stop - own.start]),
            batch.item_row[own],
            batch.event_type[own],
            batch.time_s[own],
            batch.is_target[own],
            batch.as_of_s[request : request + 1],
        )
        alone = Rhythms.of(one, Purchases.of(one))
        groups = slice(purchases.groups.offsets[request], purchases.groups.offsets[request + 1])
        for name in ("short", "long", "visits_since", "visit_share"):
            np.testing.assert_allclose(getattr(found, name)[groups], getattr(alone, name), rtol=1e-6)
