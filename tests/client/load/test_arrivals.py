from __future__ import annotations

import itertools

import pytest

from client.load.arrivals import constant_arrivals, poisson_arrivals


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert list(constant_arrivals(4.0, 1.5)) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]


def test_poisson_arrivals_are_the_seeds_exponential_gaps() -> None:
    # random.Random(7) draws u = 0.323833, 0.150849, 0.650934, 0.072436; a gap is -ln(1 - u) / rate:
    # 39.1315, 16.3518, 105.2496 and 7.5194 ms, and the fourth request would come after the end.
    times = poisson_arrivals(10.0, 0.165, seed=7)
    assert list(times) == pytest.approx([0.0391315, 0.0554833, 0.1607329], abs=1e-7)


def test_poisson_arrivals_come_at_the_rate_and_vary_as_a_poisson_process_does() -> None:
    times = poisson_arrivals(1000.0, 20.0, seed=1)
    assert len(times) == pytest.approx(20_000, abs=5 * 20_000**0.5)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation / mean == pytest.approx(1.0, abs=0.05)
    assert all(0 <= time < 20.0 for time in times)


def test_another_seed_is_another_schedule() -> None:
    assert poisson_arrivals(10.0, 1.0, seed=1) == poisson_arrivals(10.0, 1.0, seed=1)
    assert poisson_arrivals(10.0, 1.0, seed=1) != poisson_arrivals(10.0, 1.0, seed=2)


@pytest.mark.parametrize(("rate_rps", "duration_s"), [(0.1, 1.0), (20_000.0, 3600.0)])
def test_a_schedule_that_is_empty_or_too_long_is_refused(rate_rps: float, duration_s: float) -> None:
    with pytest.raises(ValueError, match=r"requests|nothing"):
        constant_arrivals(rate_rps, duration_s)
    with pytest.raises(ValueError, match=r"requests|nothing"):
        poisson_arrivals(rate_rps, duration_s, seed=1)
