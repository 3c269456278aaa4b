"""The writer against a real store: merged fields, all or none, and others at the same items."""

from __future__ import annotations

import asyncio

import pytest

from server.catalogue.change import FieldMask, ItemChange
from server.catalogue.document import ItemDocument
from server.catalogue.writer import CatalogueWriter
from server.store.connection import connect_async
from server.store.errors import StoreFull, StoreUnavailable
from tests.conftest import SmallGeneration
from tests.server.catalogue.conftest import ids_of, item
from tests.server.store_process import StoreProcess


async def test_a_field_of_an_item_that_only_the_generation_holds_is_merged_with_the_others(
    writer: CatalogueWriter, small_generation: SmallGeneration, store: StoreProcess
) -> None:
    row = small_generation.dataset.items.row(0, named=True)
    item_id = row.pop("item_id")
    done = await writer.upsert([item(item_id, price=1.5)])
    document = ItemDocument.from_json(store.client.hget("tr:items", item_id))
    assert document == ItemDocument({**row, "price": 1.5}, at=done.position)
    [(entry_id, fields)] = store.client.xrange("tr:changes")
    assert (entry_id.decode(), fields[b"k"], fields[b"id"].decode()) == (done.position, b"item", item_id)
    assert ItemDocument.from_json(fields[b"d"]).attributes == document.attributes
    masked = ItemChange(item_id, {}, None, 0, FieldMask(stock_count=True))
    await writer.upsert([masked])
    assert (await writer.get(item_id)) == ItemDocument(
        {**row, "price": 1.5}, True, 0, at=ItemDocument.from_json(store.client.hget("tr:items", item_id)).at
    )


async def test_created_updated_deleted_and_unknown_are_counted(
    writer: CatalogueWriter, small_generation: SmallGeneration
) -> None:
    known = ids_of(small_generation)[0]
    done = await writer.upsert([item("new"), item(known, price=1.0)])
    assert (done.created_count, done.updated_count) == (1, 1)
    gone = await writer.delete(["new", known, "never"])
    assert (gone.deleted_count, gone.unknown_count) == (2, 1)
    again = await writer.delete(["new", known])
    assert (again.deleted_count, again.unknown_count, again.position) == (0, 2, "0-0")
    assert await writer.get("new") is None
    assert await writer.get(known) is None
    back = await writer.upsert([item(known, price=2.0)])
    assert back.created_count == 1
    document = await writer.get(known)
    assert document is not None
    assert document.attributes == {"price": 2.0}  # of what was deleted nothing is inherited


async def test_writers_at_the_same_item_lose_no_field(
    writer: CatalogueWriter, own_generations: SmallGeneration, store: StoreProcess
) -> None:
    client = connect_async(store.address, timeout_s=5)
    other = CatalogueWriter(client, own_generations.root)
    await writer.upsert([item("boots"), item("tent")])
    changes = [
        writer.upsert([item("boots", price=1.0), item("tent", stock_count=1)]),
        other.upsert([item("tent", brand="Kestrel"), item("boots", brand="Kestrel")]),
        writer.upsert([item("boots", colour="red")]),
        other.upsert([item("boots", title="red boots")]),
        other.upsert([item("boots", stock_count=3)]),
    ]
    await asyncio.gather(*changes)
    await client.aclose()
    boots, tent = await writer.get("boots"), await writer.get("tent")
    assert boots is not None
    assert tent is not None
    assert boots.attributes == {"price": 1.0, "brand": "Kestrel", "colour": "red", "title": "red boots"}
    assert (boots.stock_count, tent.attributes, tent.stock_count) == (3, {"brand": "Kestrel"}, 1)
    assert store.client.xlen("tr:changes") == 2 + 2 + 2 + 3


async def test_a_store_that_is_full_keeps_nothing_of_a_call(writer: CatalogueWriter, store: StoreProcess) -> None:
    await writer.upsert([item("one")])
    store.client.config_set("maxmemory", "1mb")
    with pytest.raises(StoreFull):
        await writer.upsert([item("one", price=1.0), item("two")])
    store.client.config_set("maxmemory", "0")
    assert store.client.xlen("tr:changes") == 1
    assert await writer.get("two") is None


async def test_a_store_that_is_down_is_said_to_be(writer: CatalogueWriter, store: StoreProcess) -> None:
    store.stop()
    with pytest.raises(StoreUnavailable):
        await writer.upsert([item("one")])
    store.start()
    assert (await writer.upsert([item("one")])).created_count == 1
