"""When requests shall start: an open loop's schedule is made before the run and never waits for an answer."""

from __future__ import annotations

import random
from array import array

ARRIVAL_COUNT_MAX = 5_000_000
"""40 MB of times; a longer run says so instead of filling the memory."""


def constant_arrivals(rate_rps: float, duration_s: float) -> array[float]:
    """Evenly spaced start times in seconds from 0, below `duration_s`."""
    count = round(rate_rps * duration_s)
    _check_count(count)
    return array("d", (number / rate_rps for number in range(count)))


def poisson_arrivals(rate_rps: float, duration_s: float, seed: int) -> array[float]:
    """Start times of a Poisson process in seconds from 0, below `duration_s`: independent exponential gaps.

    That is how many shoppers who know nothing of each other arrive: bursts that a constant rate hides.
    """
    _check_count(rate_rps * duration_s)
    draw = random.Random(seed).expovariate
    times = array("d")
    time_s = draw(rate_rps)
    while time_s < duration_s:
        times.append(time_s)
        time_s += draw(rate_rps)
    return times


def _check_count(count: float) -> None:
    if count < 1:
        raise ValueError("the run would send nothing: raise the rate or the duration")
    if count > ARRIVAL_COUNT_MAX:
        raise ValueError(f"the run would send {count:,.0f} requests, more than {ARRIVAL_COUNT_MAX:,}: shorten it")
