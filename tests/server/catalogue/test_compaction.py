"""`python -m index compact`: the same catalogue before and after, in another generation; and when it is begun."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from index.__main__ import app
from index.commands.compact import LOCK_NAME, STORE_VARIABLE, compact_generations
from index.commands.rebuild import publish
from index.generation import (
    Generation,
    PointerMoved,
    current_id,
    list_generations,
    open_generation,
    rollback,
    set_current,
)
from index.generation.positions import LivePositions
from server.catalogue.compaction import Compaction
from server.catalogue.document import ItemDocument
from server.catalogue.writer import CatalogueWriter
from server.config import CatalogueConfig
from server.store.address import StoreAddress
from server.store.connection import connect_async
from tests.conftest import SmallGeneration
from tests.server.catalogue.conftest import Worker, ids_of, item
from tests.server.real_engine import listed, recommend
from tests.server.store_process import StoreProcess
from tests.server.waiting import until

StartWorker = Callable[..., Worker]
BOOTS: dict[str, Any] = {"category": "shoes", "brand": "Kestrel", "colour": "red", "price": 129.0, "title": "red boots"}


async def compacted(root: Path, address: StoreAddress) -> Generation:
    """Beside the event loop, as the command runs beside the server."""
    said: list[str] = []
    generation_id = await asyncio.to_thread(compact_generations, root, address, None, said.append)
    assert generation_id is not None, said
    return open_generation(root, generation_id)


@pytest.fixture
async def changed(writer: CatalogueWriter, small_generation: SmallGeneration) -> dict[str, str]:
    """Some of everything: new, new and gone, changed, deleted, out of stock."""
    known = ids_of(small_generation)
    ids = {"changed": known[3], "deleted": known[7], "sold out": known[11]}
    await writer.upsert([item("boots-new", **BOOTS), item("boots-gone", **BOOTS), item("bare")])
    await writer.upsert([item(ids["changed"], title="something else", price=999.0)])
    await writer.upsert([item(ids["sold out"], stock_count=0)])
    await writer.delete(["boots-gone", ids["deleted"]])
    return ids


async def test_the_same_items_are_answered_before_and_after(
    changed: dict[str, str], start_worker: StartWorker, own_generations: SmallGeneration, store: StoreProcess
) -> None:
    before = start_worker()
    generation = await compacted(own_generations.root, store.address)
    assert current_id(own_generations.root) == generation.id
    after = start_worker()
    assert after.engine.generation_id == generation.id
    delta = after.live.delta
    assert delta is None or len(delta.rows) + delta.hidden_count == 0  # all of it is in the index
    assert after.retrievable() == before.retrievable()
    assert after.retrievable() & {"boots-new", "boots-gone", "bare", *changed.values()} == {
        "boots-new",
        "bare",
        changed["changed"],
    }
    for user_id in ("newcomer", "u01", "u02", "u03"):
        asked = recommend(user_id, "everything", page_size=100)
        first, second = listed(before.engine, asked), listed(after.engine, asked)
        assert set(first.item_ids) == set(second.item_ids)
        scores = dict(zip(first.item_ids, first.scores, strict=True))
        np.testing.assert_allclose([scores[each] for each in second.item_ids], second.scores, atol=1e-5)
    for item_id in ("boots-new", "bare", changed["changed"], changed["sold out"]):
        rows = [worker.serving.item_ids.rows([item_id])[0] for worker in (before, after)]
        vectors = [w.serving.snapshot.items.vectors[row] for w, row in zip((before, after), rows, strict=True)]
        np.testing.assert_allclose(*vectors, atol=1e-5)


async def test_the_files_say_what_was_built_in(
    changed: dict[str, str], own_generations: SmallGeneration, store: StoreProcess
) -> None:
    old = open_generation(own_generations.root, own_generations.generation_id)
    last = store.client.xrevrange("tr:changes", count=1)[0][0].decode()
    new = await compacted(own_generations.root, store.address)
    facts = new.manifest.metadata
    assert (facts["item_count"], facts["retrievable_count"]) == (45, 43)
    assert facts["compacted_from"] == new.manifest.parent == old.id
    assert facts["feature_hash"] == old.manifest.metadata["feature_hash"]
    positions = [positions_of(each) for each in (old, new)]
    assert positions[1] == {**positions[0], "catalogue_position": last}
    table = {line["item_id"]: line for line in pl.read_parquet(new.path("catalogue.parquet")).iter_rows(named=True)}
    assert table["boots-new"] == {"item_id": "boots-new", **BOOTS}
    assert (table["bare"]["brand"], table["bare"]["title"]) == ("unknown", "")
    assert table[changed["changed"]]["price"] == 999.0
    assert "boots-gone" not in table
    assert len(table) == 45
    for name in ("towers.safetensors", "ranker.safetensors", "model.json", "users.ids"):
        assert new.manifest.files[name] == old.manifest.files[name]


def positions_of(generation: Generation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(generation.path("live.json").read_bytes())
    return found


async def test_rows_are_free_again_and_changes_go_on(
    writer: CatalogueWriter, start_worker: StartWorker, own_generations: SmallGeneration, store: StoreProcess
) -> None:
    await writer.upsert([item(f"boots-{number}", **BOOTS) for number in range(1_000)])
    await compacted(own_generations.root, store.address)
    await writer.upsert([item(f"more-{number}", **BOOTS) for number in range(10)])
    worker = start_worker()
    assert worker.live.counts.spare_left == 1_000 - 10
    assert {"boots-0", "boots-999", "more-9"} <= worker.retrievable()
    await writer.delete(["boots-0"])
    await until(lambda: "boots-0" not in worker.retrievable())


async def test_sold_out_items_come_back_into_a_compacted_generation(
    changed: dict[str, str],
    writer: CatalogueWriter,
    start_worker: StartWorker,
    own_generations: SmallGeneration,
    store: StoreProcess,
) -> None:
    await compacted(own_generations.root, store.address)
    worker = start_worker()
    await writer.upsert([item(changed["sold out"], stock_count=4)])
    await until(lambda: changed["sold out"] in worker.retrievable())


async def test_a_rollback_forgets_nothing(
    changed: dict[str, str], start_worker: StartWorker, own_generations: SmallGeneration, store: StoreProcess
) -> None:
    await compacted(own_generations.root, store.address)
    after = start_worker().retrievable()
    assert rollback(own_generations.root) == own_generations.generation_id
    assert start_worker().retrievable() == after


async def test_documents_leave_the_store_when_every_generation_holds_them(
    changed: dict[str, str],
    writer: CatalogueWriter,
    start_worker: StartWorker,
    own_generations: SmallGeneration,
    store: StoreProcess,
) -> None:
    root, client = own_generations.root, store.client
    await compacted(root, store.address)
    assert client.hlen("tr:items") == 6  # the first generation is still there, and may be rolled back to
    for path in (root / own_generations.generation_id).iterdir():
        path.unlink()
    (root / own_generations.generation_id).rmdir()
    await writer.upsert([item("later", **BOOTS)])
    await compacted(root, store.address)
    left = {key.decode(): ItemDocument.from_json(data) for key, data in client.hgetall("tr:items").items()}
    assert left.keys() == {"boots-gone", changed["deleted"], changed["sold out"], "later"}
    assert {"boots-new", "bare", "later"} <= start_worker().retrievable()


async def test_without_a_change_nothing_is_built(own_generations: SmallGeneration, store: StoreProcess) -> None:
    arguments = ["compact", "--root", str(own_generations.root), "--store", store.address.url]
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert (done.exit_code, "nothing has changed" in done.output) == (0, True), done.output
    assert list_generations(own_generations.root) == [own_generations.generation_id]


async def test_a_stream_that_was_cut_is_compacted_once(
    changed: dict[str, str], own_generations: SmallGeneration, store: StoreProcess
) -> None:
    store.client.xtrim("tr:changes", maxlen=0, approximate=False)
    await compacted(own_generations.root, store.address)
    said: list[str] = []
    again = await asyncio.to_thread(compact_generations, own_generations.root, store.address, None, said.append)
    assert again is None


async def test_two_at_once_are_one_too_many_and_a_newer_generation_stays(
    changed: dict[str, str], own_generations: SmallGeneration, store: StoreProcess
) -> None:
    root = own_generations.root
    with (root / LOCK_NAME).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = await asyncio.to_thread(
            CliRunner().invoke, app, ["compact", "--root", str(root), "--store", "unix:///x"]
        )
    assert (done.exit_code, "another compaction is under way" in done.output + done.stderr) == (1, True)
    with pytest.raises(PointerMoved, match=own_generations.generation_id):
        set_current(root, own_generations.generation_id, instead_of="20260131T120000-0123456789abcdef")


async def test_a_killed_compaction_leaves_nothing_and_the_next_succeeds(
    changed: dict[str, str], own_generations: SmallGeneration, store: StoreProcess
) -> None:
    root = own_generations.root
    command = [sys.executable, "-m", "index", "compact", "--root", str(root), "--store", store.address.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    await until(lambda: any(root.glob(".tmp-*/*")) or process.returncode is not None, 60.0)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert current_id(root) == own_generations.generation_id
    generation = await compacted(root, store.address)
    assert current_id(root) == generation.id


async def test_the_stream_is_kept_short_and_what_it_lost_is_counted_all_the_same(
    changed: dict[str, str], own_generations: SmallGeneration, store: StoreProcess
) -> None:
    plain = store.client
    plain.xtrim("tr:changes", maxlen=0, approximate=False)
    client = connect_async(store.address, timeout_s=5)
    never = CatalogueConfig(compact_at_items=1_000)
    compaction = Compaction(client, store.address, own_generations.root, None, never, look_interval_s=0.01)
    compaction.start()
    try:
        await until(lambda: compaction.changed_count == 6)
    finally:
        await compaction.stop()
    plain.delete("tr:changes")
    for milliseconds in range(1, 1_001):  # of 1970
        plain.xadd("tr:changes", {"k": "item", "id": "x", "d": "{}"}, id=f"{milliseconds}-0")
    young = plain.xadd("tr:changes", {"k": "item", "id": "x", "d": "{}"})
    compaction = Compaction(client, store.address, own_generations.root, None, never, look_interval_s=0.01)
    compaction.start()
    try:
        await until(lambda: plain.xlen("tr:changes") < 200)  # whole nodes of the stream go
        assert plain.xrevrange("tr:changes", count=1)[0][0] == young
    finally:
        await compaction.stop()
        await client.aclose()


async def test_it_begins_by_itself_when_enough_has_changed_and_a_failure_is_told(
    writer: CatalogueWriter, own_generations: SmallGeneration, store: StoreProcess
) -> None:
    root = own_generations.root
    config = CatalogueConfig(compact_at_items=3, compact_interval_s_min=0.1)
    client = connect_async(store.address, timeout_s=5)
    compaction = Compaction(client, store.address, root, None, config, look_interval_s=0.01)
    compaction.start()
    try:
        await writer.upsert([item("one"), item("two")])
        await writer.upsert([item("one", price=3.0)])
        await until(lambda: compaction.changed_count == 2)
        with (root / LOCK_NAME).open("ab") as file:  # somebody else is at it
            fcntl.flock(file, fcntl.LOCK_EX)
            await writer.upsert([item("three")])
            await until(lambda: compaction.failed_count > 0, 100.0)
        assert current_id(root) == own_generations.generation_id
        await until(lambda: compaction.done_count > 0, 100.0)
        assert current_id(root) != own_generations.generation_id
        await until(lambda: compaction.changed_count == 0)
    finally:
        await compaction.stop()
        await client.aclose()
    assert STORE_VARIABLE not in os.environ


async def test_a_training_that_decides_anew_brings_nothing_back(
    changed: dict[str, str], start_worker: StartWorker, own_generations: SmallGeneration, store: StoreProcess
) -> None:
    before = start_worker().retrievable()
    generation = await compacted(own_generations.root, store.address)
    positions = LivePositions.model_validate_json(generation.path("live.json").read_bytes())
    # As an update does: another generation at the same place in the stream, which goes by who bought what.
    published = await asyncio.to_thread(
        publish,
        own_generations.config,
        own_generations.dataset,
        own_generations.model,
        None,
        lambda _: None,
        positions,
    )
    set_current(own_generations.root, published.generation_id)
    worker = start_worker()
    assert worker.engine.generation_id == published.generation_id
    assert worker.retrievable() == before
    again = await compacted(own_generations.root, store.address)
    assert start_worker().retrievable() == before
    assert LivePositions.model_validate_json(again.path("live.json").read_bytes()) == positions
