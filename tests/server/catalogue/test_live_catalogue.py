"""What the shop changes is what the workers answer: a real store, real engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from server.catalogue.writer import CatalogueWriter
from server.domain import SimilarItemsAnswer, SimilarItemsQuery
from server.errors import CatalogueFull
from tests.conftest import SmallGeneration
from tests.server.catalogue.conftest import Worker, ids_of, item, load
from tests.server.real_engine import listed, one, recommend
from tests.server.store_process import StoreProcess
from tests.server.waiting import until

SOON_S = 3.0
"""A second is promised; the machine that tests may have other things to do."""
StartWorker = Callable[..., Worker]
BOOTS = {"category": "shoes", "brand": "Kestrel", "colour": "red", "price": 129.0, "title": "red leather boots"}


def vector_of(worker: Worker, item_id: str) -> np.ndarray:
    [row] = worker.serving.item_ids.rows([item_id])
    return worker.serving.snapshot.items.vectors[row].copy()


async def test_a_new_item_is_retrievable_and_answered_by_every_worker(
    writer: CatalogueWriter, start_worker: StartWorker
) -> None:
    first, second = start_worker(), start_worker()
    before = first.retrievable()
    done = await writer.upsert([item("boots-new", **BOOTS)])
    assert (done.created_count, done.updated_count) == (1, 0)
    for worker in (first, second):
        await until(lambda worker=worker: "boots-new" in worker.retrievable(), SOON_S)
        assert worker.retrievable() == before | {"boots-new"}
        assert "boots-new" in worker.everything()
        assert listed(worker.engine, recommend("u01", "product", context_item_ids=("boots-new",))).item_ids
    np.testing.assert_allclose(np.linalg.norm(vector_of(first, "boots-new")), 1, atol=1e-5)
    np.testing.assert_array_equal(vector_of(first, "boots-new"), vector_of(second, "boots-new"))


async def test_an_item_with_the_attributes_of_another_is_its_neighbour(
    writer: CatalogueWriter, start_worker: StartWorker, small_generation: SmallGeneration
) -> None:
    worker = start_worker()
    twin_of = ids_of(small_generation)[0]
    document = await writer.get(twin_of)
    assert document is not None
    await writer.upsert([item("twin", **dict(document.attributes))])
    await until(lambda: "twin" in worker.retrievable(), SOON_S)
    answer = one(worker.engine, SimilarItemsQuery("twin", 5))
    assert isinstance(answer, SimilarItemsAnswer)
    vectors = worker.serving.snapshot.items.vectors
    rows = worker.serving.item_ids.rows(answer.item_ids)
    exact = np.sort(vectors[worker.serving.snapshot.items.retrievable] @ vector_of(worker, "twin"))[::-1]
    np.testing.assert_allclose(vectors[rows] @ vector_of(worker, "twin"), exact[1:6], atol=1e-5)


async def test_changed_attributes_change_the_vector_and_nothing_else_of_the_item(
    writer: CatalogueWriter, start_worker: StartWorker, small_generation: SmallGeneration
) -> None:
    worker = start_worker()
    item_id = ids_of(small_generation)[3]
    [row] = worker.serving.item_ids.rows([item_id])
    before, statistics = vector_of(worker, item_id), worker.serving.snapshot.items.statistics[row].copy()
    everything = worker.retrievable()
    done = await writer.upsert([item(item_id, title="something else entirely", price=999.0)])
    assert (done.created_count, done.updated_count) == (0, 1)
    await until(lambda: not np.allclose(vector_of(worker, item_id), before, atol=1e-3), SOON_S)
    np.testing.assert_array_equal(worker.serving.snapshot.items.statistics[row], statistics)
    assert worker.retrievable() == everything
    delta = worker.live.delta
    assert delta is not None
    assert (delta.rows.tolist(), delta.hidden_count) == ([row], 1)


@pytest.mark.parametrize("how", ["deleted", "out of stock", "not available"])
async def test_what_is_gone_is_in_no_answer(
    writer: CatalogueWriter, start_worker: StartWorker, small_generation: SmallGeneration, how: str
) -> None:
    worker = start_worker()
    popular = worker.serving.snapshot.items.popular[:3]
    gone = worker.serving.item_ids.ids(popular)
    await writer.upsert([item("boots-new", **BOOTS)])
    await until(lambda: "boots-new" in worker.retrievable(), SOON_S)
    gone.append("boots-new")
    if how == "deleted":
        done = await writer.delete([*gone, "never heard of"])
        assert (done.deleted_count, done.unknown_count) == (4, 1)
    elif how == "out of stock":
        await writer.upsert([item(item_id, stock_count=0) for item_id in gone])
    else:
        await writer.upsert([item(item_id, available=False) for item_id in gone])
    await until(lambda: not worker.retrievable() & set(gone), SOON_S)
    for user_id in ("newcomer", *(f"u{number:02}" for number in range(1, 31))):
        for placement, context in (("everything", ()), ("product", (gone[0],)), ("cart", (gone[1],))):
            query = recommend(user_id, placement, page_size=8, context_item_ids=context)
            assert not set(listed(worker.engine, query).item_ids) & set(gone)
    if how != "deleted":
        await writer.upsert([item(item_id, available=True, stock_count=5) for item_id in gone])
        await until(lambda: set(gone) <= worker.retrievable(), SOON_S)


async def test_a_stock_that_changes_leaves_the_item_to_the_index(
    writer: CatalogueWriter, start_worker: StartWorker, small_generation: SmallGeneration
) -> None:
    worker = start_worker()
    item_id = ids_of(small_generation)[5]
    for stock_count in (0, 7):
        await writer.upsert([item(item_id, stock_count=stock_count)])
        await until(lambda wanted=stock_count > 0: (item_id in worker.retrievable()) is wanted, SOON_S)
    delta = worker.live.delta
    assert delta is not None
    assert (len(delta.rows), delta.hidden_count) == (0, 0)


async def test_nothing_comes_back_with_a_restart(
    writer: CatalogueWriter, start_worker: StartWorker, small_generation: SmallGeneration
) -> None:
    gone = ids_of(small_generation)[7]
    await writer.delete([gone])
    await writer.upsert([item("boots-new", **BOOTS), item("boots-gone", **BOOTS)])
    await writer.delete(["boots-gone"])
    worker = start_worker()  # at once, before it has heard of anything
    assert "boots-new" in worker.retrievable()
    assert not worker.retrievable() & {gone, "boots-gone"}
    assert gone not in worker.everything()


async def test_nothing_comes_back_while_the_store_is_away(
    writer: CatalogueWriter,
    start_worker: StartWorker,
    store: StoreProcess,
    small_generation: SmallGeneration,
    own_generations: SmallGeneration,
) -> None:
    worker = start_worker()
    gone, later = ids_of(small_generation)[7:9]
    await writer.delete([gone])
    await until(lambda: gone not in worker.retrievable(), SOON_S)
    store.stop()
    await until(lambda: not worker.follower.connected, 5.0)
    assert gone not in worker.everything()
    engine, serving = load(own_generations.root)  # a swap without a store
    assert not worker.follower.catch_up(serving.live, patience_s=0.0)
    swapped = Worker(engine, serving, worker.follower)
    assert gone not in swapped.retrievable()
    store.start()
    await until(lambda: worker.follower.connected, 5.0)
    await writer.delete([later])
    for each in (worker, swapped):
        await until(lambda each=each: later not in each.retrievable(), SOON_S)
        assert gone not in each.retrievable()


async def test_what_the_stream_no_longer_holds_is_read_from_the_documents(
    writer: CatalogueWriter, start_worker: StartWorker, store: StoreProcess
) -> None:
    worker = start_worker()
    await until(lambda: worker.follower.connected, 5.0)
    store.stop()
    await until(lambda: not worker.follower.connected, 5.0)
    store.start()
    # The follower may be back by now or not: the change is in the stream for a moment only.
    await writer.upsert([item("boots-new", **BOOTS)])
    store.client.xtrim("tr:changes", maxlen=0, approximate=False)
    await until(lambda: "boots-new" in worker.retrievable(), 5.0)


async def test_a_bulk_is_there_within_a_second(writer: CatalogueWriter, start_worker: StartWorker) -> None:
    worker = start_worker()
    await until(lambda: worker.follower.connected, 5.0)
    await writer.upsert([item(f"boots-{number}", **BOOTS) for number in range(1_000)])
    await until(lambda: worker.live.counts.applied == 1_000, SOON_S)
    assert len(worker.retrievable()) > 1_000


async def test_when_the_rows_are_used_up_new_items_are_refused_and_old_ones_change(
    writer: CatalogueWriter, start_worker: StartWorker, small_generation: SmallGeneration
) -> None:
    worker = start_worker()
    await writer.upsert([item(f"boots-{number}", **BOOTS) for number in range(999)])
    with pytest.raises(CatalogueFull, match=r"2 new items, but .* rows for 1 more"):
        await writer.upsert([item("one", **BOOTS), item("two", **BOOTS)])
    assert await writer.get("one") is None  # all or none
    await writer.upsert([item("one", **BOOTS), item("boots-3", price=1.0)])
    with pytest.raises(CatalogueFull, match="compact"):
        await writer.upsert([item("two", **BOOTS)])
    await writer.upsert([item("boots-3", price=2.0), item(ids_of(small_generation)[0], price=3.0)])
    await until(lambda: "one" in worker.retrievable(), SOON_S)
    assert (worker.live.counts.spare_left, worker.live.counts.without_row) == (0, 0)


async def test_a_worker_without_a_row_left_goes_on(
    writer: CatalogueWriter, start_worker: StartWorker, store: StoreProcess
) -> None:
    worker = start_worker()
    worker.live.counts.spare_left = 1
    await writer.upsert([item("one", **BOOTS), item("two", **BOOTS), item("three", **BOOTS)])
    await until(lambda: worker.live.counts.without_row == 2, SOON_S)
    found = worker.retrievable()
    assert found & {"one", "two", "three"} == {"one"}


async def test_purges_are_handed_on(start_worker: StartWorker, store: StoreProcess) -> None:
    heard: list[tuple[str, bytes, str]] = []
    gaps: list[None] = []
    worker = start_worker(
        on_purge=lambda who, document, position: heard.append((who, document, position)),
        on_gap=lambda: gaps.append(None),
    )
    await until(lambda: worker.follower.connected, 5.0)
    position = store.client.xadd("tr:changes", {"k": "purge", "id": "u:u01", "d": "{}"})
    await until(lambda: bool(heard), SOON_S)
    assert heard == [("u:u01", b"{}", position.decode())]
    assert gaps


def test_a_document_that_nobody_can_read_is_passed_over(start_worker: StartWorker, store: StoreProcess) -> None:
    client = store.client
    client.hset("tr:items", "broken", b"{]")
    client.hset("tr:items", "sound", b'{"attributes":{"brand":"Kestrel"},"available":true,"at":"5-1"}')
    worker = start_worker()
    assert worker.retrievable() & {"sound", "broken"} == {"sound"}
