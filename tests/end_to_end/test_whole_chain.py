"""The small shop through the real commands, each in a process of its own: from CSV files to an answer over gRPC."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health_pb2
from twinrank.v1 import admin_pb2
from twinrank_client import AsyncClient, RecentEvent, RecommendRequest, RepeatPolicy, ScoreRequest, SimilarItemsRequest

from tests.end_to_end.processes import command, scrape, server, server_config
from tests.server.stubs import admin_stub, health_stub

TOKEN = (("authorization", "Bearer a-token-for-tests-only"),)
ASKED_AT = datetime.fromisoformat("2026-10-30T12:00:00+00:00")


async def test_from_csv_files_to_an_answer_with_metrics_admin_and_health(
    small_shop_config: Path, tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    for path in small_shop_config.parent.glob("*.csv"):
        (shop / path.name).write_bytes(path.read_bytes())
    config = shop / "shop.toml"
    config.write_text(small_shop_config.read_text().replace('"var/small"', f'"{tmp_path / "work"}"'))

    assert "null_keys" in await command("towers", "ingest", config)
    assert "model in" in await command("towers", "train", config)
    built = await command("index", "rebuild", config)
    assert "recall@200 1.0000" in built
    generation_id = built.rpartition("generation ")[2].split()[0]
    assert "current" in await command("index", "list", "--config", config)
    assert f"{generation_id}: verified" in await command("index", "verify", "--config", config)

    async with server(server_config(tmp_path, tmp_path / "work" / "generations")) as running:
        assert running.listening["generation_id"] == generation_id
        async with AsyncClient(running.target, timeout_s=5) as client:
            await ask_everything(client, generation_id)
        await look_at_admin_and_health(running.target, running.listening["admin_port"], generation_id)
        metrics = await asyncio.to_thread(scrape, running.listening["metrics_port"])
        assert f'twinrank_generation_info{{generation_id="{generation_id}"}} 1.0' in metrics
        assert 'twinrank_requests_total{code="OK",method="Recommend"} 2.0' in metrics
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
    assert running.said("stopped") is not None


async def ask_everything(client: AsyncClient, generation_id: str) -> None:
    request = RecommendRequest(
        user_id="u01", request_time=ASKED_AT, page_size=10, explain=True, timings=True, context={"device": "phone"}
    )
    answer = await client.recommend(request)
    assert len(set(answer.item_ids)) == len(answer.explanations) == 10
    assert answer.generation_id == generation_id
    assert not answer.degraded
    assert answer.timings is not None
    assert answer.timings.batch_size == 1
    just_bought = RecommendRequest(
        user_id="u01",
        request_time=ASKED_AT,
        page_size=10,
        recent_events=[RecentEvent(answer.item_ids[0], "purchase")],
        repeat_policy=RepeatPolicy.EXCLUDE_BOUGHT,
    )
    assert answer.item_ids[0] not in (await client.recommend(just_bought)).item_ids
    scores = await client.score(
        ScoreRequest(user_id="u01", item_ids=answer.item_ids, request_time=ASKED_AT, context={"device": "phone"})
    )
    assert max(abs(a - b) for a, b in zip(scores.scores, answer.scores, strict=True)) < 1e-5
    assert len(await client.similar_items(SimilarItemsRequest("tents-1", page_size=5))) == 5
    assert len(await client.batch_recommend([request, just_bought])) == 2


async def look_at_admin_and_health(target: str, admin_port: int, generation_id: str) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{admin_port}") as channel:
        admin = admin_stub(channel)
        status = await admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=TOKEN)
        assert (status.generation_id, status.refused_generation_id) == (generation_id, "")
        listed = await admin.ListGenerations(admin_pb2.ListGenerationsRequest(), metadata=TOKEN)
        assert [(entry.generation_id, entry.current, entry.item_count) for entry in listed.generations] == [
            (generation_id, True, 43)
        ]
    async with aio.insecure_channel(target) as channel:
        health = await health_stub(channel).Check(
            health_pb2.HealthCheckRequest(service="twinrank.v1.RecommendationService")
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
