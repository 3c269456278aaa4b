"""Least squares of a head that says numbers: many targets decide, a handful does not."""

from __future__ import annotations

import numpy as np

from towers.training import ranker_calibration


def test_many_targets_decide_and_a_handful_does_not() -> None:
    random = np.random.default_rng(1)
    prediction = random.normal(size=5_000)
    slope, offset = ranker_calibration._line(prediction, 3.0 * prediction + 2.0)
    assert abs(slope - 3.0) < 0.01
    assert abs(offset - 2.0) < 0.01
    few = np.full(5_000, np.nan)
    prediction[:3] = [0.0, 0.001, 0.002]
    few[:3] = [1.0, 3.0, 5.0]  # a line of slope 2,000
    slope, offset = ranker_calibration._line(prediction, few)
    assert 0.9 < slope < 1.1
    assert abs(offset + slope * 0.001 - 3.0) < 1e-6
    assert ranker_calibration._line(prediction, np.full(5_000, np.nan)) == (1.0, 0.0)
