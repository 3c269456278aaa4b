import numpy as np
import pytest
from scipy.stats import ttest_1samp

from towers.evaluation import bootstrap as bootstrap_module
from towers.evaluation.bootstrap import Bootstrap

VALUES = np.random.default_rng(1).random(400)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    first = Bootstrap(seed=3).intervals({"ndcg": VALUES})
    assert Bootstrap(seed=3).intervals({"ndcg": VALUES}) == first
    assert Bootstrap(seed=4).intervals({"ndcg": VALUES}) != first


def test_the_interval_is_that_of_the_central_limit() -> None:
    interval = Bootstrap(resamples=4000).intervals({"ndcg": VALUES})["ndcg"]
    half_width = 1.96 * VALUES.std() / np.sqrt(len(VALUES))
    assert interval.mean == pytest.approx(VALUES.mean())
    assert interval.low == pytest.approx(VALUES.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(VALUES.mean() + half_width, abs=0.1 * half_width)


def test_a_wider_level_gives_a_wider_interval() -> None:
    narrow = Bootstrap(level=0.5).intervals({"ndcg": VALUES})["ndcg"]
    wide = Bootstrap(level=0.99).intervals({"ndcg": VALUES})["ndcg"]
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_users_leave_no_doubt() -> None:
    interval = Bootstrap().intervals({"ndcg": np.full(50, 0.25)})["ndcg"]
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_pairing_sees_a_small_steady_lead_that_separate_intervals_hide() -> None:
    ahead = VALUES + 0.01
    apart = Bootstrap().intervals({"first": ahead, "second": VALUES})
    assert apart["first"].low < apart["second"].high
    paired = Bootstrap().paired_difference(ahead, VALUES)
    assert paired.low == pytest.approx(0.01)
    assert paired.high == pytest.approx(0.01)


def test_drawing_in_blocks_gives_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Bootstrap(resamples=100).intervals({"ndcg": VALUES})["ndcg"]
    monkeypatch.setattr(bootstrap_module, "DRAWS_IN_MEMORY_MAX", 7 * len(VALUES))
    blocks = Bootstrap(resamples=100).intervals({"ndcg": VALUES})["ndcg"]
    assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high))


def test_arrays_over_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="same users"):
        Bootstrap().intervals({"first": VALUES, "second": VALUES[:10]})
    with pytest.raises(ValueError, match="same users"):
        Bootstrap().paired_difference(VALUES, VALUES[:10])
    with pytest.raises(ValueError, match="same users"):
        Bootstrap().intervals({"nobody": VALUES[:0]})


def test_p_values_are_those_of_the_t_test_and_never_zero() -> None:
    shifted = VALUES - VALUES.mean() + 0.03  # about two standard errors: half_width above is 0.028
    expected = ttest_1samp(shifted, 0.0).pvalue
    found = Bootstrap(resamples=20_000).p_values(
        {"shifted": shifted, "centred": shifted - 0.03, "sure": np.full(400, 0.1), "none": np.zeros(400)}
    )
    assert found["shifted"] == pytest.approx(expected, rel=0.15)
    assert found["centred"] > 0.99
    assert found["sure"] == pytest.approx(1 / 20_001)
    assert found["none"] == 1.0


def test_groups_of_different_users_are_drawn_apart() -> None:
    first, second = VALUES[:250], VALUES[250:] + 1.0
    interval = Bootstrap(resamples=4000).unpaired_difference(first, second)
    half_width = 1.96 * np.sqrt(first.var() / len(first) + second.var() / len(second))
    assert interval.mean == pytest.approx(first.mean() - second.mean())
    assert interval.high - interval.mean == pytest.approx(half_width, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half_width, rel=0.1)
    alike = Bootstrap().unpaired_difference(VALUES, VALUES)
    assert alike.low < 0 < alike.high  # equal draws of both groups would leave no doubt
    with pytest.raises(ValueError, match="got 0 and 150"):
        Bootstrap().unpaired_difference(VALUES[:0], second)
