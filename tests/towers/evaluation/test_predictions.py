import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.evaluation.predictions import auc, log_loss, rmse


def test_auc_counts_ordered_pairs_and_half_of_the_ties() -> None:
    # positives .8 .5 against negatives .6 .5 .1: wins 3 + 1, one tie, of 6 pairs
    scores, labels = np.array([0.8, 0.6, 0.5, 0.5, 0.1]), np.array([1, 0, 1, 0, 0])
    assert auc(scores, labels) == pytest.approx(4.5 / 6)


def test_auc_of_constant_scores_is_a_half() -> None:
    assert auc(np.zeros(5), np.array([0, 1, 0, 1, 1])) == 0.5


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_equals_the_comparison_of_all_pairs(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in pairs])
    labels = np.array([int(label) for _, label in pairs])
    if labels.min() == labels.max():
        with pytest.raises(ValueError, match="both classes"):
            auc(scores, labels)
        return
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    assert auc(scores, labels) == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def test_log_loss_is_the_mean_negative_log_likelihood() -> None:
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3
    assert log_loss(np.array([0.9, 0.2, 0.5]), np.array([1, 0, 1])) == pytest.approx(expected)


def test_log_loss_of_a_certain_and_wrong_forecast_is_finite() -> None:
    assert log_loss(np.array([0.0]), np.array([1])) == pytest.approx(-math.log(1e-7))


def test_rmse_ignores_pairs_without_a_rating() -> None:
    actual = np.array([5.0, np.nan, 1.0])
    assert rmse(np.array([4.0, 3.0, 4.0]), actual) == pytest.approx(math.sqrt((1 + 9) / 2))
    with pytest.raises(ValueError, match="at least one"):
        rmse(np.array([1.0]), np.array([np.nan]))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one length"):
        rmse(np.array([1.0, 2.0]), np.array([1.0]))
    with pytest.raises(ValueError, match="one length"):
        auc(np.array([]), np.array([]))
