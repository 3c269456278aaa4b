"""Latencies in an HDR histogram: three significant digits from a microsecond to a minute, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

from hdrh.histogram import HdrHistogram

LATENCY_US_MAX = 60_000_000
SIGNIFICANT_DIGITS = 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)
"""What a report shows, beside the maximum."""


class LatencyHistogram:
    """Seconds in, milliseconds out. Longer than a minute counts as a minute."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)

    def record(self, latency_s: float) -> None:
        """Counts one latency; about 2 µs."""
        self._histogram.record_value(min(max(int(latency_s * 1e6), 0), LATENCY_US_MAX))

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._histogram.get_total_count())

    @property
    def max_ms(self) -> float:
        """The longest, 0 when there is none."""
        return float(self._histogram.get_max_value()) / 1000 if self.count else 0.0

    def percentile_ms(self, percentile: float) -> float:
        """The latency that this percentage of the recorded ones does not exceed; 0 when there is none."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000 if self.count else 0.0

    def summary(self) -> dict[str, float]:
        """`p50_ms` … `p99.99_ms` and `max_ms`."""
        percentiles = {f"p{percentile:g}_ms": self.percentile_ms(percentile) for percentile in PERCENTILES}
        return {**percentiles, "max_ms": self.max_ms}

    def curve(self) -> Iterator[tuple[float, float]]:
        """Points (percentile, latency in ms) for a plot, five for each halving of what is left to 100 %."""
        if self.count:
            for step in self._histogram.get_percentile_iterator(5):
                yield float(step.percentile_level_iterated_to), float(step.value_iterated_to) / 1000
