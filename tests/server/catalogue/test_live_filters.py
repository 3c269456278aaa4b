"""Filters see what the shop changes: new items, new values, changed ones, and those that are gone; a real store."""

from __future__ import annotations

from collections.abc import Callable

from index.filters import AllOf, Equals, Expression, In, Not, Range
from server.catalogue.writer import CatalogueWriter
from server.domain import SimilarItemsAnswer, SimilarItemsQuery
from tests.server.catalogue.conftest import Worker, item
from tests.server.real_engine import listed, one, recommend
from tests.server.waiting import until

SOON_S = 3.0
KESTREL = Equals("brand", "Kestrel")
"""A brand that no item of the generation has."""


def shown(worker: Worker, expression: Expression) -> set[str]:
    """What fits, by a shopper's list, which has it all."""
    answer = listed(worker.engine, recommend("u01", "everything", page_size=100, filter=expression))
    assert answer.shortfall
    return set(answer.item_ids)


def found(worker: Worker, expression: Expression) -> set[str]:
    """The same, once nothing changes: an item's neighbours that fit are no others."""
    fit = shown(worker, expression)
    near = one(worker.engine, SimilarItemsQuery("tents-1", 100, (), expression))
    assert isinstance(near, SimilarItemsAnswer)
    assert set(near.item_ids) == fit - {"tents-1"}
    return fit


async def test_a_filter_finds_new_items_and_follows_those_that_change(
    writer: CatalogueWriter, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    cheap = AllOf((Range("price", None, 100), In("category", ("shoes", "tents"))))
    before, others = found(worker, cheap), found(worker, Not(KESTREL))
    assert found(worker, KESTREL) == set()
    boots = {"category": "shoes", "colour": "red", "title": "red boots"}
    await writer.upsert([item("boots-1", brand="Kestrel", price=99.0, **boots)])
    await writer.upsert([item("boots-2", brand="Kestrel", price=101.0, **boots)])
    await until(lambda: shown(worker, KESTREL) == {"boots-1", "boots-2"}, SOON_S)
    assert found(worker, cheap) == before | {"boots-1"}
    assert found(worker, Not(KESTREL)) == others

    await writer.upsert([item("boots-2", price=100.0)])
    await until(lambda: shown(worker, cheap) == before | {"boots-1", "boots-2"}, SOON_S)
    await writer.upsert([item("boots-1", available=False), item("boots-2", brand="Fjell")])
    await until(lambda: shown(worker, cheap) == before | {"boots-2"}, SOON_S)
    assert found(worker, KESTREL) == set()
    assert found(worker, Not(KESTREL)) == others | {"boots-2"}
    await writer.delete(["boots-2"])
    await until(lambda: shown(worker, cheap) == before, SOON_S)


async def test_a_filter_follows_the_generation_s_own_items(
    writer: CatalogueWriter, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    shoes = Equals("category", "shoes")
    before = found(worker, shoes)
    moved, gone, dear, *_ = sorted(before)
    assert dear in found(worker, Range("price", None, 1_000))
    await writer.upsert([item(moved, category="boats"), item(dear, price=5_000.0)])
    await writer.delete([gone])
    await until(lambda: shown(worker, shoes) == before - {moved, gone}, SOON_S)
    assert found(worker, Equals("category", "boats")) == {moved}
    assert found(worker, Range("price", 2_000)) == {dear}
    assert found(start_worker(), shoes) == before - {moved, gone}  # who comes later sees the same
