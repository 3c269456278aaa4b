from __future__ import annotations

from math import log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.random_logs import DAY_S, ITEM_COUNT, PURCHASE, VIEW, Asked, asked, extra_of, histories_of
from towers.candidates import code_counts
from towers.features.histories import FloatArray, HistoryBatch
from towers.features.item_statistics import STATISTIC_NAMES
from towers.features.pairs import ATTRIBUTE_FEATURES, ITEM_FEATURES, pair_feature_names, pair_features
from towers.features.purchases import NEVER_DAYS, Purchases

NOW = 100 * DAY_S
# Item:                       0  1  2  3  4  5  6
CATEGORY = np.array([[1], [1], [2], [2], [3], [3], [0]], np.int32)
STATISTICS = np.full((len(CATEGORY), len(STATISTIC_NAMES)), log1p(20), np.float32)  # everybody buys every 20 days
ATTRIBUTES = ["category"]
NEVER = log1p(NEVER_DAYS)


def days_ago(days: float) -> int:
    return NOW - int(days * DAY_S)


def slow(days: float) -> float:
    return float(2 ** (-days / 60))


def fast(days: float) -> float:
    return float(2 ** (-days / 14))


def long(days: float) -> float:
    return float(2 ** (-days / 150))


def features_of(batch: HistoryBatch, candidates: list[list[int]]) -> FloatArray:
    rows = np.array(candidates, np.int32).reshape(len(batch), -1)
    return pair_features(batch, Purchases.of(batch), rows, CATEGORY, code_counts(CATEGORY), STATISTICS)


def named(values: FloatArray) -> dict[str, float]:
    return dict(zip(pair_feature_names(ATTRIBUTES), values.tolist(), strict=True))


HOUSEHOLD = [
    (2, PURCHASE, days_ago(20)),
    (2, PURCHASE, days_ago(20)),  # the same basket
    (2, PURCHASE, days_ago(10)),
    (3, PURCHASE, days_ago(5)),
    (2, VIEW, days_ago(3)),
    (2, VIEW, days_ago(1)),
]
CART = extra_of([(4, VIEW, NOW, False)])
TOTAL = slow(20) * 2 + slow(10) + slow(5)


def test_features_of_a_bought_item_are_those_computed_by_hand() -> None:
    batch = Asked(histories_of([HOUSEHOLD]), [0], [NOW], [CART]).batch()
    assert named(features_of(batch, [[2]])[0, 0]) == pytest.approx(
        {
            "log_times": log1p(2),
            "log_decayed_slow": log1p(slow(20) + slow(10)),
            "log_decayed_fast": log1p(fast(20) + fast(10)),
            "log_days_since": log1p(10),
            "ever": 1,
            "share": (slow(20) + slow(10)) / (TOTAL + 1),
            "log_other_events": log1p(2),
            "log_days_since_other": log1p(1),
            "fast_share": (fast(20) + fast(10)) / (2 * fast(20) + fast(10) + fast(5) + 1),
            "smooth_due_ratio": 10 / ((10 + 2 * 20) / 3),
            "log_decayed_long": log1p(long(20) + long(10)),
            "log_smooth_interval_days": log1p((10 + 2 * 20) / 3),
            "due_soon_ratio": (10 + 30) / ((10 + 2 * 20) / 3),
            "category_log_decayed": log1p(TOTAL),
            "category_share": TOTAL / (TOTAL + 1),
            "category_log_days_since": log1p(5),
            "category_log_decayed_long": log1p(long(20) + long(10) + long(5)),
            "category_log_interval_days": log1p((15 + 2 * 30) / 4),
            "category_loyalty": (slow(20) + slow(10)) / (TOTAL + 0.5),
        },
        rel=1e-6,
    )


def test_an_item_bought_once_has_everybodys_rhythm() -> None:
    batch = Asked(histories_of([HOUSEHOLD]), [0], [NOW], [None]).batch()
    once = named(features_of(batch, [[3]])[0, 0])
    assert once["log_times"] == pytest.approx(log1p(1))
    assert once["log_smooth_interval_days"] == pytest.approx(log1p(20))
    assert once["due_soon_ratio"] == pytest.approx((5 + 30) / 20)


def test_an_item_in_the_cart_is_not_bought_but_was_just_touched() -> None:
    batch = Asked(histories_of([HOUSEHOLD]), [0], [NOW], [CART]).batch()
    in_cart = named(features_of(batch, [[4]])[0, 0])
    expected = {
        "ever": 0,
        "log_times": 0,
        "log_days_since": NEVER,
        "log_other_events": log1p(1),
        "log_days_since_other": 0,
        "category_log_decayed": 0,
        "category_log_days_since": NEVER,
    }
    assert {name: in_cart[name] for name in expected} == pytest.approx(expected)


def test_a_stranger_has_the_features_of_never() -> None:
    batch = Asked(histories_of([HOUSEHOLD]), [-1], [NOW], [None]).batch()
    expected = dict.fromkeys(pair_feature_names(ATTRIBUTES), 0.0)
    never = ("log_days_since", "log_days_since_other", "category_log_days_since")
    expected |= dict.fromkeys(never, NEVER)
    assert named(features_of(batch, [[2]])[0, 0]) == pytest.approx(expected)


def test_no_request_and_no_candidate_are_no_features() -> None:
    log = histories_of([HOUSEHOLD])
    width = len(pair_feature_names(ATTRIBUTES))
    nobody, rows = Asked(log, [], [], []).batch(), np.zeros((0, 3), np.int32)
    assert pair_features(nobody, Purchases.of(nobody), rows, CATEGORY, code_counts(CATEGORY), STATISTICS).shape == (
        0,
        3,
        width,
    )
    assert features_of(Asked(log, [0], [NOW], [None]).batch(), [[]]).shape == (1, 0, width)


def test_without_affinity_attributes_the_item_features_remain() -> None:
    batch = Asked(histories_of([HOUSEHOLD]), [0], [NOW], [None]).batch()
    rows, none = np.array([[2]], np.int32), np.zeros((ITEM_COUNT, 0), np.int32)
    features = pair_features(batch, Purchases.of(batch), rows, none, code_counts(none), STATISTICS)
    assert features.tobytes() == features_of(batch, [[2]])[:, :, : len(ITEM_FEATURES)].tobytes()


def test_every_attribute_has_its_own_columns() -> None:
    """Alone, or beside others whose codes are the same numbers and mean something else."""
    batch = Asked(histories_of([HOUSEHOLD, []]), [0, 1, -1, 0], [NOW, NOW, NOW, days_ago(9)], [CART, None, CART, None])
    purchases, rows = Purchases.of(batch.batch()), np.tile(np.arange(ITEM_COUNT, dtype=np.int32), (4, 1))
    brand = np.array([[3], [1], [1], [0], [2], [2], [5]], np.int32)
    both = np.concatenate([CATEGORY, brand], axis=1)
    together = pair_features(batch.batch(), purchases, rows, both, code_counts(both), STATISTICS)
    first = len(ITEM_FEATURES)
    for place, codes in enumerate([CATEGORY, brand]):
        alone = pair_features(batch.batch(), purchases, rows, codes, code_counts(codes), STATISTICS)[:, :, first:]
        begin = first + place * len(ATTRIBUTE_FEATURES)
        assert together[:, :, begin : begin + len(ATTRIBUTE_FEATURES)].tobytes() == alone.tobytes()


def test_padded_candidates_and_further_columns_are_zero() -> None:
    batch = Asked(histories_of([HOUSEHOLD]), [0], [NOW], [CART]).batch()
    rows = np.array([[2, -1]], np.int32)
    features = pair_features(batch, Purchases.of(batch), rows, CATEGORY, code_counts(CATEGORY), STATISTICS, further=3)
    assert features.shape == (1, 2, len(pair_feature_names(ATTRIBUTES)) + 3)
    assert not features[0, 1].any()
    assert not features[0, 0, -3:].any()
    assert features[0, 0].any()


@given(asked(), st.data())
def test_a_batch_is_its_single_requests_bit_for_bit(case: Asked, data: st.DataObject) -> None:
    row = st.lists(st.integers(-1, ITEM_COUNT - 1), min_size=4, max_size=4)
    candidates = data.draw(st.lists(row, min_size=len(case.user_rows), max_size=len(case.user_rows)))
    together = features_of(case.batch(), candidates)
    for place, rows in enumerate(candidates):
        single = features_of(case.single(place), [rows])
        assert together[place].tobytes() == single[0].tobytes()
        assert np.isfinite(single).all()
