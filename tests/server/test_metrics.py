"""What a scrape reads."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from twinrank.v1 import recommendation_pb2 as pb

from server.metrics import Histogram
from tests.server.conftest import Running
from tests.server.waiting import until


async def scrape(running: Running) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    def read() -> str:
        with urlopen(f"http://127.0.0.1:{running.server.metrics_port}/metrics") as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(read)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_scrape_counts_calls_batches_and_the_generation(running: Running) -> None:
    for _ in range(3):
        await running.stub.Recommend(pb.RecommendRequest())
    with pytest.raises(grpc.aio.AioRpcError):
        await running.stub.Recommend(pb.RecommendRequest(placement="nowhere"))
    stream = running.stub.StreamRecommend()
    await stream.write(pb.StreamRecommendRequest(request=pb.RecommendRequest(request_id="r")))
    await stream.read()
    samples = await scrape(running)
    assert samples["twinrank_requests_total", (("code", "OK"), ("method", "Recommend"))] == 3
    assert samples["twinrank_requests_total", (("code", "INVALID_ARGUMENT"), ("method", "Recommend"))] == 1
    assert samples["twinrank_requests_total", (("code", "OK"), ("method", "StreamRecommend"))] == 1
    assert samples["twinrank_request_seconds_count", (("method", "Recommend"),)] == 3
    assert samples["twinrank_batch_size_count", ()] == 4
    assert samples["twinrank_queue_seconds_count", ()] == 4
    assert samples["twinrank_stage_seconds_total", (("stage", "rank"),)] == pytest.approx(16e-6)
    assert samples["twinrank_generation_info", (("generation_id", running.engine.generation_id),)] == 1
    assert samples["twinrank_in_flight", ()] == 0
    assert samples["twinrank_streams", ()] == 1
    assert samples["twinrank_draining", ()] == 0
    assert samples["process_resident_memory_bytes", ()] > 0


async def test_drops_are_counted_by_reason(start: Any) -> None:
    running = await start()
    running.engine.gate.clear()
    held = asyncio.ensure_future(running.stub.Recommend(pb.RecommendRequest(), timeout=10.0))
    await asyncio.to_thread(running.engine.entered.acquire)
    late = running.stub.Recommend(pb.RecommendRequest(), timeout=0.5)
    await until(lambda: running.server.batcher.queue_length == 1)
    with pytest.raises(grpc.aio.AioRpcError):
        await late
    read = running.server.metrics.registry.get_sample_value
    missed = {"method": "Recommend", "code": "DEADLINE_EXCEEDED"}
    await until(lambda: read("twinrank_requests_total", missed) == 1)
    running.engine.gate.set()
    await held
    await running.stub.Recommend(pb.RecommendRequest())
    await until(lambda: sum(read("twinrank_dropped_total", {"reason": reason}) for reason in ("cancelled", "deadline")))
    samples = await scrape(running)
    dropped = {key[1][0][1]: value for key, value in samples.items() if key[0] == "twinrank_dropped_total"}
    assert sum(dropped.values()) == 1
    assert set(dropped) == {"cancelled", "deadline"}
    assert samples["twinrank_requests_total", (("code", "DEADLINE_EXCEEDED"), ("method", "Recommend"))] == 1


def test_a_histogram_accumulates_its_buckets() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert histogram.buckets() == [("1.0", 2.0), ("2.0", 3.0), ("+Inf", 4.0)]
    assert histogram.sum == 12.0
