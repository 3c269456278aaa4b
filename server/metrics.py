"""Prometheus metrics, and the listener that serves them.

The hot path adds to plain integers (a tenth of a microsecond each); Prometheus' own objects, with a lock and a lookup a
sample, are made when somebody scrapes. What a batch shares is added once a batch. A lock keeps the counts exact:
additions come from the event loop, the engine's thread and the front's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from socketserver import ThreadingMixIn
from threading import Lock, Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from server.batching import BatchRecord

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_SIZE_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 128.0)
SHUTDOWN_POLL_S = 0.05
"""How often the listener's thread looks whether it should end."""
STAGES = ("state", "user_tower", "retrieve", "rank")


class Histogram:
    """Counts of values up to each bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_all(self, values: Sequence[float]) -> None:
        """Many more values; equal ones that follow each other, as those of one burst, are looked up once."""
        bounds, counts = self.bounds, self.counts
        last, place = -inf, 0
        for value in values:
            if value != last:
                last, place = value, bisect_left(bounds, value)
            counts[place] += 1
        self.sum += sum(values)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as Prometheus wants them."""
        total = 0
        cumulative = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            cumulative.append((bound, float(total)))
        return cumulative


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is read only when somebody asks."""

    in_flight_count: Callable[[], int]
    stream_count: Callable[[], int]
    queue_length: Callable[[], int]
    generation_id: Callable[[], str]
    generation_loaded_at_s: Callable[[], float]
    generations_refused_count: Callable[[], int]
    draining: Callable[[], bool]


class Metrics(Collector):
    """Everything the server counts. `gauges` are attached once the parts they look at exist."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self.gauges: Gauges | None = None
        self.event_counts: Callable[[], Mapping[str, int]] | None = None
        """Events that the store has, by whether they were written or known already."""
        self._lock = Lock()
        self._calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._latency_s: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(LATENCY_BOUNDS_S))
        self._queue_s = Histogram(LATENCY_BOUNDS_S)
        self._engine_s = Histogram(LATENCY_BOUNDS_S)
        self._batch_size = Histogram(BATCH_SIZE_BOUNDS)
        self._stage_us = dict.fromkeys(STAGES, 0)
        self._dropped = {"cancelled": 0, "deadline": 0}

    @property
    def answered_count(self) -> int:
        """Calls and stream messages that were answered with a result."""
        return sum(count for (_, code), count in list(self._calls.items()) if code == "OK")

    def call_done(self, method: str, code: str, seconds: float) -> None:
        """One call, or one message of a stream, has got its status."""
        with self._lock:
            self._calls[(method, code)] += 1
            if code == "OK":
                self._latency_s[method].add(seconds)

    def calls_answered(self, seconds_by_method: Mapping[str, Sequence[float]]) -> None:
        """All the calls that one batch answered with a result: as `call_done` with OK for each."""
        with self._lock:
            for method, seconds in seconds_by_method.items():
                self._calls[(method, "OK")] += len(seconds)
                self._latency_s[method].add_all(seconds)

    def batch_done(self, record: BatchRecord) -> None:
        """One engine batch is over. Never called by two threads at a time."""
        self._dropped["cancelled"] += record.gone_count
        self._dropped["deadline"] += record.late_count
        if not record.queue_s:
            return
        self._batch_size.add(len(record.queue_s))
        self._engine_s.add(record.engine_s)
        self._queue_s.add_all(record.queue_s)
        timings = record.timings
        stages = self._stage_us
        stages["state"] += timings.state_us
        stages["user_tower"] += timings.user_tower_us
        stages["retrieve"] += timings.retrieve_us
        stages["rank"] += timings.rank_us

    def collect(self) -> Iterator[Metric]:
        """What a scrape reads; called on the listener's thread."""
        calls = CounterMetricFamily(
            "twinrank_requests", "Calls and stream messages by status.", labels=["method", "code"]
        )
        for (method, code), count in list(self._calls.items()):
            calls.add_metric([method, code], count)
        yield calls
        latency = HistogramMetricFamily(
            "twinrank_request_seconds", "From the arrival of a request to its answer, successes.", labels=["method"]
        )
        for method, histogram in list(self._latency_s.items()):
            latency.add_metric([method], histogram.buckets(), histogram.sum)
        yield latency
        yield _histogram("twinrank_queue_seconds", "How long queries waited for the engine.", self._queue_s)
        yield _histogram("twinrank_batch_seconds", "How long the engine took for a batch.", self._engine_s)
        yield _histogram("twinrank_batch_size", "Queries in an engine batch.", self._batch_size)
        stages = CounterMetricFamily("twinrank_stage_seconds", "Engine time by stage.", labels=["stage"])
        for stage, microseconds in self._stage_us.items():
            stages.add_metric([stage], microseconds / 1e6)
        yield stages
        dropped = CounterMetricFamily(
            "twinrank_dropped", "Queries dropped before any work was done on them.", labels=["reason"]
        )
        for reason, count in self._dropped.items():
            dropped.add_metric([reason], count)
        yield dropped
        if self.event_counts is not None:
            events = CounterMetricFamily("twinrank_events", "Events acknowledged.", labels=["result"])
            for result, count in self.event_counts().items():
                events.add_metric([result], count)
            yield events
        if self.gauges is not None:
            yield from _gauge_families(self.gauges)


def _gauge_families(gauges: Gauges) -> Iterator[Metric]:
    yield GaugeMetricFamily("twinrank_in_flight", "Unary calls in flight.", gauges.in_flight_count())
    yield GaugeMetricFamily("twinrank_streams", "Open recommendation streams.", gauges.stream_count())
    yield GaugeMetricFamily("twinrank_queue_length", "Queries that wait for the engine.", gauges.queue_length())
    yield GaugeMetricFamily("twinrank_draining", "1 from SIGTERM to the end.", int(gauges.draining()))
    yield GaugeMetricFamily(
        "twinrank_generation_loaded_timestamp_seconds",
        "When the generation was loaded.",
        gauges.generation_loaded_at_s(),
    )
    yield CounterMetricFamily(
        "twinrank_generations_refused", "Generations that did not load.", gauges.generations_refused_count()
    )
    yield InfoMetricFamily(
        "twinrank_generation", "The generation that answers.", {"generation_id": gauges.generation_id()}
    )


def _histogram(name: str, documentation: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, documentation, buckets=histogram.buckets(), sum_value=histogram.sum)


class MetricsListener:
    """Serves `/metrics` on a thread of its own."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server = make_server(host, port, make_wsgi_app(registry), _Server, _SilentHandler)
        self._thread = Thread(target=self._server.serve_forever, args=(SHUTDOWN_POLL_S,), name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def stop(self) -> None:
        """Closes the listener and ends its thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _SilentHandler(WSGIRequestHandler):
    timeout = 10  # seconds; a scraper that says nothing must not hold a thread

    def log_message(self, format: str, *args: object) -> None:
        pass
