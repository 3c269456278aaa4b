from __future__ import annotations

import pytest

from client.load.latency import LatencyHistogram


def test_percentiles_of_one_to_a_thousand_milliseconds() -> None:
    histogram = LatencyHistogram()
    for ms in range(1, 1001):
        histogram.record(ms / 1000)
    assert histogram.count == 1000
    assert histogram.summary() == {
        "p50_ms": pytest.approx(500, rel=2e-3),
        "p90_ms": pytest.approx(900, rel=2e-3),
        "p99_ms": pytest.approx(990, rel=2e-3),
        "p99.9_ms": pytest.approx(999, rel=2e-3),
        "p99.99_ms": pytest.approx(1000, rel=2e-3),
        "max_ms": pytest.approx(1000, rel=2e-3),
    }


def test_an_empty_histogram_is_all_zero() -> None:
    assert set(LatencyHistogram().summary().values()) == {0.0}
    assert list(LatencyHistogram().curve()) == []


def test_what_lies_outside_the_range_is_counted_at_its_ends() -> None:
    histogram = LatencyHistogram()
    histogram.record(-0.001)
    histogram.record(3600)
    assert histogram.count == 2
    assert histogram.max_ms == pytest.approx(60_000, rel=2e-3)


def test_the_curve_rises_to_the_maximum() -> None:
    histogram = LatencyHistogram()
    for ms in range(1, 101):
        histogram.record(ms / 1000)
    points = list(histogram.curve())
    assert points == sorted(points)
    assert points[-1][1] == pytest.approx(100, rel=2e-3)
