"""CatalogService over gRPC: in both shapes of the server, with the embedded store, and through its death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from twinrank.v1 import catalog_pb2 as pb
from twinrank.v1 import catalog_pb2_grpc, filter_pb2
from twinrank.v1 import recommendation_pb2 as recommendation

from tests.conftest import SmallGeneration
from tests.end_to_end.processes import ServerProcess, scrape, server, server_config
from tests.server.catalogue.conftest import ids_of
from tests.server.statuses import fields_of, reason_of
from tests.server.stubs import recommendation_stub
from tests.server.test_admin_service import AUTHORIZED

METHODS = pb.DESCRIPTOR.services_by_name["CatalogService"].methods_by_name
_STUB: Any = catalog_pb2_grpc.CatalogServiceStub
PATIENCE_S = 20.0


@dataclass
class Shop:
    process: ServerProcess
    channels: list[Any]  # several, so that every worker is asked
    admin: Any

    async def similar(self, item_id: str) -> list[set[str]]:
        """The neighbours of an item by each connection, hence by each worker; its own id where it is unknown."""
        request = recommendation.SimilarItemsRequest(item_id=item_id, page_size=100)
        return [set((await recommendation_stub(each).SimilarItems(request)).item_ids) for each in self.channels]

    async def generations(self, item_id: str) -> list[str]:
        """The generation that answers each connection."""
        request = recommendation.SimilarItemsRequest(item_id=item_id, page_size=1)
        return [(await recommendation_stub(each).SimilarItems(request)).generation_id for each in self.channels]

    async def until_everywhere(self, item_id: str, neighbour_of: str, *, there: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while any((item_id in found) is not there for found in await self.similar(neighbour_of)):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def open_shop(config: Path) -> AsyncIterator[Shop]:
    alone = [("grpc.use_local_subchannel_pool", 1)]
    async with server(config) as process:
        channels = [grpc.aio.insecure_channel(process.target, options=alone) for _ in range(8)]
        admin = grpc.aio.insecure_channel(f"127.0.0.1:{process.listening['admin_port']}")
        yield Shop(process, channels, _STUB(admin))
        for channel in [*channels, admin]:
            await channel.close()


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def config(request: pytest.FixtureRequest, tmp_path: Path, own_generations: SmallGeneration) -> Path:
    path = server_config(tmp_path, own_generations.root)
    path.write_text(path.read_text() + f"[workers]\ncount = {request.param}\n")
    return path


async def upserted_once_the_store_is_there(shop: Shop, request: pb.UpsertItemsRequest) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await shop.admin.UpsertItems(request, metadata=AUTHORIZED)
            except grpc.aio.AioRpcError as error:
                if reason_of(error) != "CATALOGUE_DOWN":
                    raise


def text(value: str) -> filter_pb2.AttributeValue:
    return filter_pb2.AttributeValue(text=value)


def number(value: float) -> filter_pb2.AttributeValue:
    return filter_pb2.AttributeValue(number=value)


BOOTS = {"category": text("shoes"), "brand": text("Kestrel"), "price": number(129)}


async def test_what_is_written_here_is_answered_there_also_after_a_sudden_end(
    config: Path, small_generation: SmallGeneration
) -> None:
    anchor, gone = ids_of(small_generation)[:2]
    async with open_shop(config) as shop:
        boots = pb.Item(item_id="boots-new", attributes=BOOTS, stock_count=3)
        done = await upserted_once_the_store_is_there(shop, pb.UpsertItemsRequest(request_id="r-1", items=[boots]))
        assert (done.request_id, done.created_count, done.updated_count) == ("r-1", 1, 0)
        assert done.position
        await shop.until_everywhere("boots-new", anchor, there=True)
        got = await shop.admin.GetItem(pb.GetItemRequest(item_id="boots-new"), metadata=AUTHORIZED)
        assert got.retrievable
        assert (got.item.available, got.item.stock_count, got.item.attributes["price"].number) == (True, 3, 129)
        removed = await shop.admin.DeleteItems(
            pb.DeleteItemsRequest(item_ids=[gone, "never heard of"]), metadata=AUTHORIZED
        )
        assert (removed.deleted_count, removed.unknown_count) == (1, 1)
        await shop.until_everywhere(gone, anchor, there=False)
        async with asyncio.timeout(PATIENCE_S):  # workers report once a second
            while not {
                "twinrank_catalogue_following 1.0",
                "twinrank_catalogue_spare_rows 999.0",
                "twinrank_catalogue_delta_items 2.0",
            } <= set((await asyncio.to_thread(scrape, shop.process.listening["metrics_port"])).splitlines()):
                await asyncio.sleep(0.1)
        os.kill(shop.process.process.pid, signal.SIGKILL)
        await shop.process.ended()
    async with open_shop(config) as shop:
        for found in await shop.similar(anchor):  # at once: it was caught up with before it listened
            assert "boots-new" in found
            assert gone not in found
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await shop.admin.GetItem(pb.GetItemRequest(item_id=gone), metadata=AUTHORIZED)
        assert reason_of(failure.value) == "ITEM_NOT_FOUND"
        for method in METHODS:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await getattr(shop.admin, method)(getattr(pb, METHODS[method].input_type.name)())
            assert reason_of(failure.value) == "TOKEN_INVALID"
            request = getattr(pb, METHODS[method].input_type.name)()
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await getattr(_STUB(shop.channels[0]), method)(request, metadata=AUTHORIZED)
            assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED  # never beside the public methods
        wrong = pb.Item(item_id="x", attributes={"colr": text("red")})
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await shop.admin.UpsertItems(pb.UpsertItemsRequest(items=[wrong]), metadata=AUTHORIZED)
        assert fields_of(failure.value) == ['items[0].attributes["colr"]']
        mask = FieldMask(paths=["stock_count"])
        await shop.admin.UpsertItems(
            pb.UpsertItemsRequest(items=[pb.Item(item_id="boots-new", stock_count=0)], update_mask=mask),
            metadata=AUTHORIZED,
        )
        await shop.until_everywhere("boots-new", anchor, there=False)


async def test_two_workers_have_their_catalogue_compacted_behind_their_backs(
    tmp_path: Path, own_generations: SmallGeneration, small_generation: SmallGeneration
) -> None:
    anchor, gone = ids_of(small_generation)[:2]
    config = server_config(tmp_path, own_generations.root)
    settings = "[catalogue]\ncompact_at_items = 3\ncompact_interval_s_min = 0.5\n"
    config.write_text(config.read_text() + f"[workers]\ncount = 2\n{settings}")
    async with open_shop(config) as shop:
        await upserted_once_the_store_is_there(
            shop, pb.UpsertItemsRequest(items=[pb.Item(item_id=f"boots-{n}", attributes=BOOTS) for n in range(3)])
        )
        await shop.admin.DeleteItems(pb.DeleteItemsRequest(item_ids=[gone, "boots-2"]), metadata=AUTHORIZED)
        async with asyncio.timeout(60):
            while any(each == small_generation.generation_id for each in await shop.generations(anchor)):
                for found in await shop.similar(anchor):
                    assert len(found) >= 42  # nobody was refused, nothing was lost on the way
                await asyncio.sleep(0.05)
        for found in await shop.similar(anchor):
            assert found & {"boots-0", "boots-1", "boots-2", gone} == {"boots-0", "boots-1"}
        await shop.admin.UpsertItems(
            pb.UpsertItemsRequest(items=[pb.Item(item_id="boots-3", attributes=BOOTS)]), metadata=AUTHORIZED
        )
        await shop.until_everywhere("boots-3", anchor, there=True)
