"""The live catalogue: how soon a new item is found on every worker, and whether a deleted one is ever served again.

`python -m tests.benchmarks.freshness.catalogue [--upserts 300] [--answers 100000]`; the last line is JSON. A new item
has a brand of its own and is asked for by a filter on it, so that an answer that holds it has retrieved it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from twinrank.v1 import catalog_pb2, catalog_pb2_grpc, filter_pb2
from twinrank.v1 import recommendation_pb2 as pb

from tests.benchmarks.freshness.shop import AS_OF_S, Admin, copied_generations, percentile, serving, user_ids
from tests.benchmarks.freshness.stale import one_of_each
from tests.benchmarks.load import SERVICE
from tests.benchmarks.processes import free_port
from tests.benchmarks.wire import connect

BRAND = "brand"
UPSERT_PATIENCE_S = 10.0
SERVED_AFTER_S = 1.0
DELETED_ITEMS = 500
USERS = 400
IN_FLIGHT = 32


async def upserts(target: str, admin: Admin, count: int) -> list[float]:
    """Milliseconds from sending each new item until every worker has answered with it."""
    workers, channels = await one_of_each(target)
    operator = grpc.aio.insecure_channel(f"127.0.0.1:{admin.port}")
    catalogue = catalog_pb2_grpc.CatalogServiceStub(operator)
    waited_ms = []
    for number in range(count):
        item_id, brand = f"new-{number}", filter_pb2.AttributeValue(text=f"bench-{number}")
        item = catalog_pb2.Item(item_id=item_id, attributes={BRAND: brand})
        asked = pb.RecommendRequest(
            visitor_id="anybody",
            page_size=1,
            filter=filter_pb2.Filter(equals=filter_pb2.EqualsFilter(attribute=BRAND, value=brand)),
        )
        began_s = time.perf_counter()
        await catalogue.UpsertItems(catalog_pb2.UpsertItemsRequest(items=[item]), timeout=10, metadata=admin.metadata)
        for worker in workers:
            while item_id not in (await worker.lists.Recommend(asked, timeout=10)).item_ids:
                assert time.perf_counter() < began_s + UPSERT_PATIENCE_S, f"{item_id} does not appear"
                await asyncio.sleep(0.002)
        waited_ms.append((time.perf_counter() - began_s) * 1e3)
    await asyncio.gather(operator.close(), *(channel.close() for channel in channels))
    return waited_ms


async def deletions(target: str, admin: Admin, users: list[str], answer_count: int) -> tuple[int, int]:
    """Deletes what is offered most, waits a second, and counts answers, and those with a deleted item."""
    moment = Timestamp(seconds=int(AS_OF_S))
    payloads = [
        pb.RecommendRequest(user_id=user_id, request_time=moment, page_size=20).SerializeToString() for user_id in users
    ]
    connections = [await connect(target, f"{SERVICE}/Recommend", 10.0) for _ in range(8)]
    offered: dict[str, int] = {}
    deleted: set[str] = set()
    state = {"answers": 0, "served": 0, "under_way": 0, "failed": 0}

    def done(raw: bytes | None) -> None:
        state["under_way"] -= 1
        if raw is None:
            state["failed"] += 1
            return
        answer = pb.RecommendResponse.FromString(raw)
        state["answers"] += 1
        if deleted:
            state["served"] += not deleted.isdisjoint(answer.item_ids)
        else:
            for item_id in answer.item_ids:
                offered[item_id] = offered.get(item_id, 0) + 1

    async def ask(count: int) -> None:
        for number in range(count):
            while state["under_way"] >= IN_FLIGHT:
                await asyncio.sleep(0.0005)
            state["under_way"] += 1
            connections[number % len(connections)].call(payloads[number % len(payloads)], done)
        while state["under_way"]:
            await asyncio.sleep(0.001)

    await ask(len(payloads))
    chosen = sorted(offered, key=lambda item_id: -offered[item_id])[:DELETED_ITEMS]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{admin.port}") as operator:
        request = catalog_pb2.DeleteItemsRequest(item_ids=chosen)
        await catalog_pb2_grpc.CatalogServiceStub(operator).DeleteItems(request, timeout=10, metadata=admin.metadata)
    await asyncio.sleep(SERVED_AFTER_S)
    deleted.update(chosen)
    state["answers"] = 0
    await ask(answer_count)
    assert state["failed"] == 0, f"{state['failed']} requests failed"
    for connection in connections:
        connection.close()
    return state["answers"], state["served"]


async def measure(
    target: str, admin: Admin, users: list[str], upsert_count: int, answer_count: int
) -> dict[str, object]:
    """Both figures."""
    waited_ms = await upserts(target, admin, upsert_count)
    answered, served = await deletions(target, admin, users, answer_count)
    return {
        "upsert_visible_ms": {f"p{percent}": round(percentile(waited_ms, percent), 1) for percent in (50, 99)},
        "upserts": upsert_count,
        "deleted_served": served,
        "deleted_items": DELETED_ITEMS,
        "deleted_answers": answered,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upserts", type=int, default=300)
    parser.add_argument("--answers", type=int, default=100_000)
    options = parser.parse_args()
    admin = Admin(free_port(), secrets.token_hex(16))
    with copied_generations() as root, serving(root, "catalogue", admin=admin) as process:
        users = user_ids(root)[:USERS]
        print(json.dumps(asyncio.run(measure(process.command.target, admin, users, options.upserts, options.answers))))


if __name__ == "__main__":
    main()
