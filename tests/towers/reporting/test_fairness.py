import numpy as np
import pytest
from scipy.stats import ttest_ind

from towers.reporting.fairness import gaps, welch_p
from towers.reporting.slices import Slicing

RNG = np.random.default_rng(5)
WELL, BADLY, UNKNOWN = RNG.normal(0.6, 0.1, 60), RNG.normal(0.4, 0.1, 50), RNG.normal(0.1, 0.1, 40)
NDCG = np.concatenate([WELL, BADLY, UNKNOWN, [0.5] * 3])
GROUP = np.repeat([0, 1, 2, 3], [60, 50, 40, 3])
BY_AGE = Slicing("age", "users", ("old", "young", "unknown", "rare"), GROUP)
BASELINE = NDCG / 2


def test_each_group_is_compared_with_all_others_and_the_widest_gap_is_between_known_groups() -> None:
    (entry,) = gaps([BY_AGE], {"ndcg@20": NDCG}, {"ndcg@20": BASELINE})
    old = entry["groups"][0]
    assert (old["group"], old["users"]) == ("old", 60)
    assert old["ndcg@20"] == pytest.approx(WELL.mean())
    others = np.concatenate([BADLY, NDCG[-3:]])  # of known groups, the small one among them
    assert old["ndcg@20_gap"] == pytest.approx(WELL.mean() - others.mean())
    assert old["ndcg@20_gap_ci"][0] < old["ndcg@20_gap"] < old["ndcg@20_gap_ci"][1]
    assert old["ndcg@20_significant"]
    assert [row["group"] for row in entry["groups"]] == ["old", "young", "unknown"]
    known = np.concatenate([WELL, others])
    assert entry["groups"][2]["ndcg@20_gap"] == pytest.approx(UNKNOWN.mean() - known.mean())
    assert entry["left_out"] == ["rare"]
    widest = entry["widest"]["ndcg@20"]
    assert (widest["highest"], widest["lowest"]) == ("old", "young")  # unknown is no group of people
    assert widest["gap"] == pytest.approx(WELL.mean() - BADLY.mean())
    assert widest["baseline_gap"] == pytest.approx(widest["gap"] / 2)


def test_p_values_are_corrected_over_all_attributes() -> None:
    half = Slicing("half", "users", ("a", "b"), np.arange(len(NDCG)) % 2)
    together = gaps([BY_AGE, half], {"ndcg@20": NDCG}, {"ndcg@20": BASELINE})
    row = together[1]["groups"][0]
    assert row["ndcg@20_p"] == pytest.approx(ttest_ind(NDCG[::2], NDCG[1::2], equal_var=False).pvalue)
    assert row["ndcg@20_p_holm"] == pytest.approx(min(2 * row["ndcg@20_p"], 1.0))  # the two largest of five are equal
    assert not row["ndcg@20_significant"]


def test_one_group_or_none_has_no_gap() -> None:
    alone = Slicing("age", "users", ("all",), np.zeros(len(NDCG), np.int64))
    (entry,) = gaps([alone], {"ndcg@20": NDCG}, {"ndcg@20": BASELINE})
    assert entry["widest"] == {}
    assert "ndcg@20_gap" not in entry["groups"][0]
    assert gaps([], {"ndcg@20": NDCG}, {"ndcg@20": BASELINE}) == []


def test_groups_without_variance() -> None:
    assert welch_p(np.zeros(3), np.zeros(4)) == 1.0
    assert welch_p(np.zeros(3), np.ones(4)) == 0.0
