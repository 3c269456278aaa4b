"""CatalogService without a transport: messages and calls in, messages or domain errors out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from twinrank.v1 import catalog_pb2 as pb
from twinrank.v1 import filter_pb2

from index.generation import GenerationError
from server.catalogue.decoding import CatalogueDecoder
from server.catalogue.document import ItemDocument
from server.catalogue.writer import CatalogueWriter
from server.config import CatalogueConfig
from server.errors import CatalogueDown, CatalogueFull, GenerationRefused, ItemNotFound
from server.store.errors import StoreError, StoreFull

CATALOG_SERVICE = pb.DESCRIPTOR.services_by_name["CatalogService"].full_name

ResultT = TypeVar("ResultT")
_LOGGER = structlog.stdlib.get_logger("twinrank.catalogue")


class CatalogService:
    """The shop's methods to change its catalogue."""

    def __init__(self, writer: CatalogueWriter, config: CatalogueConfig, id_bytes_max: int) -> None:
        self._writer = writer
        self._decoder = CatalogueDecoder(config, id_bytes_max)

    async def upsert_items(self, request: pb.UpsertItemsRequest) -> pb.UpsertItemsResponse:
        """Creates and changes items. Raises InvalidRequest, CatalogueFull, CatalogueBusy, Unavailable."""
        base = await _in_our_terms(self._writer.base)
        changes = self._decoder.upsert(request, base.columns)
        done = await _in_our_terms(lambda: self._writer.upsert(changes))
        return pb.UpsertItemsResponse(
            request_id=request.request_id,
            created_count=done.created_count,
            updated_count=done.updated_count,
            position=done.position,
        )

    async def delete_items(self, request: pb.DeleteItemsRequest) -> pb.DeleteItemsResponse:
        """Removes items. Raises InvalidRequest, CatalogueBusy, Unavailable."""
        item_ids = self._decoder.delete(request)
        done = await _in_our_terms(lambda: self._writer.delete(item_ids))
        return pb.DeleteItemsResponse(
            request_id=request.request_id,
            deleted_count=done.deleted_count,
            unknown_count=done.unknown_count,
            position=done.position,
        )

    async def get_item(self, request: pb.GetItemRequest) -> pb.GetItemResponse:
        """One item as it is now. Raises InvalidRequest, ItemNotFound, Unavailable."""
        item_id = self._decoder.get(request)
        document = await _in_our_terms(lambda: self._writer.get(item_id))
        if document is None:
            raise ItemNotFound(item_id, (await _in_our_terms(self._writer.base)).generation_id)
        return pb.GetItemResponse(item=_item(item_id, document), retrievable=document.retrievable)


def _item(item_id: str, document: ItemDocument) -> pb.Item:
    attributes = {
        name: filter_pb2.AttributeValue(text=value)
        if isinstance(value, str)
        else filter_pb2.AttributeValue(number=value)
        for name, value in document.attributes.items()
    }
    return pb.Item(
        item_id=item_id, attributes=attributes, available=document.available, stock_count=document.stock_count
    )


async def _in_our_terms(work: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """What goes wrong in the store or on disk, as the caller is told it."""
    try:
        return await work()
    except StoreFull as error:
        raise CatalogueFull("the store is full and keeps nothing more; nothing was written") from error
    except StoreError as error:
        _LOGGER.warning("the store does not take changes of the catalogue", reason=str(error))
        raise CatalogueDown from error
    except (GenerationError, OSError) as error:
        raise GenerationRefused(f"the current generation's catalogue cannot be read: {error}") from error
