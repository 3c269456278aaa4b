"""The process that takes changes of the catalogue: the service on its admin listener, and compaction in the background.

One process of a server does this: the supervisor of several workers, or the server that runs alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twinrank.v1 import catalog_pb2 as pb

from server.call import Call
from server.catalogue.compaction import Compaction
from server.catalogue.service import CatalogService
from server.catalogue.writer import CatalogueWriter
from server.config import ServerConfig
from server.store.address import StoreAddress
from server.store.connection import connect_async

if TYPE_CHECKING:
    import grpc

    from server.front_grpcio import CallAdapter

Guard = Callable[[Callable[[Any], Awaitable[Message]]], Callable[[Any, Call], Awaitable[Message]]]
"""Puts a method behind the token."""


class CatalogueDesk(Collector):
    """The writer's side of the live catalogue; on the running event loop."""

    def __init__(self, config: ServerConfig, store: StoreAddress) -> None:
        root = config.generations.root
        self._client = connect_async(store, timeout_s=config.store.write_timeout_ms / 1000)
        writer = CatalogueWriter(self._client, root)
        self._service = CatalogService(writer, config.catalogue, config.limits.id_bytes_max)
        self._compaction = Compaction(
            self._client, store, root, config.generations.signature_key_file, config.catalogue
        )

    def start(self) -> None:
        """Begins to watch for what is to be compacted."""
        self._compaction.start()

    async def stop(self) -> None:
        """Ends a compaction that is under way: it has published nothing yet, or is done."""
        await self._compaction.stop()
        await self._client.aclose()

    def describe(self) -> list[Metric]:
        """Nothing: they are asked for when they are wanted."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What a scrape reads. Called on any thread."""
        work = self._compaction
        yield GaugeMetricFamily(
            "twinrank_catalogue_changed_items", "Items changed since the generation was built.", work.changed_count
        )
        done = CounterMetricFamily("twinrank_catalogue_compactions", "Compactions by result.", labels=["result"])
        done.add_metric(["done"], work.done_count)
        done.add_metric(["failed"], work.failed_count)
        yield done

    def handlers(self, adapter: CallAdapter, guard: Guard) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """The methods of CatalogService, behind the token."""
        service = self._service
        return {
            "UpsertItems": adapter.unary("UpsertItems", pb.UpsertItemsRequest, guard(service.upsert_items)),
            "DeleteItems": adapter.unary("DeleteItems", pb.DeleteItemsRequest, guard(service.delete_items)),
            "GetItem": adapter.unary("GetItem", pb.GetItemRequest, guard(service.get_item)),
        }
