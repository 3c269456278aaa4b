from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.towers.random_logs import DAY_S, PURCHASE, VIEW, Asked, asked, extra_of, histories_of
from towers.features.purchases import NEVER_DAYS, Purchases

NOW = 100 * DAY_S


def days_ago(days: float) -> int:
    return NOW - int(days * DAY_S)


def slow(days: float) -> float:
    return float(2 ** (-days / 60))


def fast(days: float) -> float:
    return float(2 ** (-days / 14))


def long(days: float) -> float:
    return float(2 ** (-days / 150))


def bought(events: list[tuple[int, int, int]], extra: list[tuple[int, int, int, bool]] | None = None) -> Purchases:
    case = Asked(histories_of([events]), [0], [NOW], [extra_of(extra) if extra else None])
    return Purchases.of(case.batch())


def test_aggregates_are_those_computed_by_hand() -> None:
    purchases = bought(
        [
            (2, PURCHASE, days_ago(30)),
            (2, PURCHASE, days_ago(20)),
            (3, PURCHASE, days_ago(14)),
            (2, PURCHASE, days_ago(6)),
        ]
    )
    assert purchases.groups.item_row.tolist() == [2, 3]
    assert purchases.times.tolist() == [3, 1]
    assert purchases.decayed_slow.tolist() == pytest.approx([slow(30) + slow(20) + slow(6), slow(14)], rel=1e-6)
    assert purchases.decayed_fast.tolist() == pytest.approx([fast(30) + fast(20) + fast(6), 0.5], rel=1e-6)
    assert purchases.decayed_long.tolist() == pytest.approx([long(30) + long(20) + long(6), long(14)], rel=1e-6)
    assert purchases.days_since.tolist() == [6, 14]
    assert purchases.interval_days.tolist() == [12, NEVER_DAYS]
    assert purchases.total.tolist() == pytest.approx([slow(30) + slow(20) + slow(14) + slow(6)], rel=1e-6)


def test_several_lines_of_one_basket_are_one_purchase_of_the_item() -> None:
    one = bought([(2, PURCHASE, days_ago(20)), (2, PURCHASE, days_ago(10))])
    several = bought([(2, PURCHASE, days_ago(20))] * 3 + [(2, PURCHASE, days_ago(10))] * 2)
    for name in ("times", "decayed_slow", "decayed_fast", "decayed_long", "days_since", "interval_days"):
        assert getattr(several, name).tolist() == getattr(one, name).tolist()


def test_what_lies_in_the_cart_or_was_viewed_is_not_bought() -> None:
    purchases = bought(
        [(1, VIEW, days_ago(2)), (2, PURCHASE, days_ago(1))], extra=[(3, PURCHASE, NOW, False), (4, VIEW, NOW, False)]
    )
    assert purchases.groups.item_row.tolist() == [2]


def test_a_purchase_sent_with_the_request_counts() -> None:
    purchases = bought([(2, PURCHASE, days_ago(4))], extra=[(2, PURCHASE, NOW, True), (5, PURCHASE, NOW, True)])
    assert purchases.groups.item_row.tolist() == [2, 5]
    assert purchases.times.tolist() == [2, 1]
    assert purchases.days_since.tolist() == [0, 0]


def test_whoever_bought_nothing_has_no_rows_and_no_weight() -> None:
    purchases = bought([(1, VIEW, days_ago(2))])
    assert len(purchases.groups.item_row) == 0
    assert purchases.total.tolist() == [0]


def test_groups_are_found_by_request_and_item() -> None:
    case = Asked(
        histories_of([[(2, PURCHASE, 1)], [(2, PURCHASE, 1), (4, PURCHASE, 2)]]), [0, -1, 1], [NOW] * 3, [None] * 3
    )
    groups = Purchases.of(case.batch()).groups
    assert groups.offsets.tolist() == [0, 1, 1, 3]
    assert groups.request.tolist() == [0, 2, 2]
    group = groups.find(np.array([[2, 4, -1], [2, 4, 9], [4, 2, 3]], np.int32))
    assert group.tolist() == [[0, -1, -1], [-1, -1, -1], [2, 1, -1]]
    assert groups.item_row[group[group >= 0]].tolist() == [2, 4, 2]


def test_events_that_are_no_purchases_are_counted_apart() -> None:
    purchases = bought(
        [(4, VIEW, days_ago(8)), (1, PURCHASE, days_ago(5)), (4, VIEW, days_ago(3)), (1, VIEW, days_ago(2))],
        extra=[(4, PURCHASE, days_ago(1), False)],
    )
    assert purchases.groups.item_row.tolist() == [1]
    assert purchases.others.item_row.tolist() == [1, 4]
    assert purchases.others.events.tolist() == [1, 3]
    assert purchases.others_days_since.tolist() == [2, 1]


def test_ages_are_days_before_the_own_request_and_never_negative() -> None:
    log = histories_of([[(1, VIEW, 0)], [(2, VIEW, DAY_S)]])
    late = extra_of([(3, VIEW, 500_000, False)])
    batch = Asked(log, [0, 1], [DAY_S // 2, 3 * DAY_S], [None, late]).batch()
    assert Purchases.of(batch).others_days_since.tolist() == [0.5, 2.0, 0.0]


@given(asked())
def test_a_batch_is_its_single_requests_bit_for_bit(case: Asked) -> None:
    together = Purchases.of(case.batch())
    for place in range(len(case.user_rows)):
        single = Purchases.of(case.single(place))
        own, others = together.groups.request == place, together.others.request == place
        assert together.groups.item_row[own].tolist() == single.groups.item_row.tolist()
        assert together.total[place].tobytes() == single.total[0].tobytes()
        for name in ("times", "decayed_slow", "decayed_fast", "decayed_long", "days_since", "interval_days"):
            assert getattr(together, name)[own].tobytes() == getattr(single, name).tobytes()
        assert together.others.item_row[others].tolist() == single.others.item_row.tolist()
        assert together.others.events[others].tolist() == single.others.events.tolist()
        assert together.others_days_since[others].tobytes() == single.others_days_since.tobytes()


@given(asked())
def test_times_are_the_distinct_moments_of_purchase(case: Asked) -> None:
    batch = case.batch()
    purchases = Purchases.of(batch)
    moments: dict[tuple[int, int], set[int]] = {}
    for request, item, time_s, is_target in zip(
        batch.request_of_event.tolist(),
        batch.item_row.tolist(),
        batch.time_s.tolist(),
        batch.is_target.tolist(),
        strict=True,
    ):
        if is_target:
            moments.setdefault((request, item), set()).add(time_s)
    groups = purchases.groups
    found = zip(groups.request.tolist(), groups.item_row.tolist(), strict=True)
    assert dict(zip(found, purchases.times.tolist(), strict=True)) == {pair: len(at) for pair, at in moments.items()}
