"""What is acknowledged is in the store: the log and the state, once."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import numpy as np
import pytest
from twinrank.v1 import events_pb2 as pb

from server.config import ServerConfig
from server.errors import QueueFull, ShuttingDown, StoreIsDown, StoreIsFull
from server.events import writer as writer_module
from server.events.decoding import EventDecoder
from server.events.domain import WriteReceipt
from server.events.log import read_log
from server.events.writer import EventWriter
from server.state.keys import alias_key, log_key, shard, user_key, visitor_key
from server.state.packed import RECORD_DTYPE, event_id_hash, item_hash, session_hash, type_hash, unpack
from tests.server.events.test_decoding import at, event
from tests.server.store_process import StoreProcess

NOW_S = 1_700_000_000.0
FOREVER_MS = 2**50


async def write(writer: EventWriter, decoder: EventDecoder, *events: pb.Event) -> WriteReceipt:
    return await writer.write(decoder.decode(events, NOW_S))


def items(store: StoreProcess, key: str) -> list[int]:
    return [int(record["item_hash"]) for record in unpack([store.client.get(key)]).events]


def hashes(*item_ids: str) -> list[int]:
    return [item_hash(item_id) for item_id in item_ids]


async def test_an_event_is_in_the_log_and_in_the_state_that_packed_reads(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    receipt = await write(
        writer,
        decoder,
        event(event_type="purchase", event_id="e1", session_id="s", item_id="i", quantity=2.5, time=at(1_699_999_999)),
    )
    [logged] = read_log(store.client, 0, FOREVER_MS)
    assert (receipt.written_count, receipt.duplicate_count) == (1, 0)
    assert receipt.last_ms == logged.position_ms
    assert receipt.person_key == user_key("u")
    assert (logged.event_id, logged.item_id, logged.quantity, logged.time_s) == ("e1", "i", 2.5, 1_699_999_999.0)
    value = store.client.get(user_key("u"))
    states = unpack([value])
    expected = np.zeros(1, RECORD_DTYPE)
    expected["position_ms"] = receipt.last_ms
    expected["item_hash"], expected["time_s"] = item_hash("i"), 1_699_999_999
    expected["session_hash"], expected["type_hash"] = session_hash("s"), type_hash("purchase")
    expected["quantity"] = 2.5
    assert states.events.tobytes() == expected.tobytes()
    assert states.last_ms.tolist() == [receipt.last_ms]
    assert states.purged_ms.tolist() == [0]
    assert struct.unpack_from("<Q", value, 32)[0] == event_id_hash("e1")
    assert 0 < store.client.pttl(user_key("u")) <= 400 * 86_400_000


async def test_kinds_go_where_they_belong(store: StoreProcess, writer: EventWriter, decoder: EventDecoder) -> None:
    types = ["view", "purchase", "search", "click", "wish", "impression", "rate"]
    await write(writer, decoder, *(event(event_type=kind, item_id=kind, rating=4.0) for kind in types))
    deeds_then_signals = ("purchase", "wish", "rate", "view", "click")
    assert items(store, user_key("u")) == hashes(*deeds_then_signals)
    assert [logged.event_type for logged in read_log(store.client, 0, FOREVER_MS)] == types


async def test_a_duplicate_is_counted_and_not_written(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    first = await write(writer, decoder, event(event_id="a"), event(event_id="a"), event(event_id="b"))
    again = await write(writer, decoder, event(event_id="b"), event(event_id="c"), event())
    other = await write(writer, decoder, event(event_id="a", user_id="another"))
    assert (first.written_count, first.duplicate_count) == (2, 1)
    assert (again.written_count, again.duplicate_count) == (2, 1)
    assert (other.written_count, other.duplicate_count) == (1, 0)
    assert len(list(read_log(store.client, 0, FOREVER_MS))) == 5


async def test_when_all_are_duplicates_the_receipt_still_names_the_place_of_the_events(
    writer: EventWriter, decoder: EventDecoder
) -> None:
    first = await write(writer, decoder, event(event_id="a"))
    again = await write(writer, decoder, event(event_id="a"))
    assert (again.written_count, again.last_ms) == (0, first.last_ms)


async def test_the_newest_arrivals_are_kept_however_late_they_are(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    await write(writer, decoder, *(event(item_id=str(place)) for place in range(5)))
    await write(writer, decoder, event(item_id="late", time=at(1_000)))
    assert items(store, user_key("u")) == hashes("2", "3", "4", "late")


async def test_writes_that_wait_go_together(writer: EventWriter, decoder: EventDecoder) -> None:
    receipts = await asyncio.gather(
        *(write(writer, decoder, event(user_id=f"u{place % 7}", event_id=str(place))) for place in range(100))
    )
    assert [receipt.written_count for receipt in receipts] == [1] * 100


async def test_a_store_that_lost_its_scripts_gets_them_again(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    await write(writer, decoder, event(event_id="a"))
    store.client.script_flush()
    receipt = await write(writer, decoder, event(event_id="a"), event(event_id="b"), event(user_id="w"))
    assert (receipt.written_count, receipt.duplicate_count) == (2, 1)


async def test_a_store_that_is_down_refuses_and_is_found_again(
    own_store: StoreProcess, config: ServerConfig, decoder: EventDecoder
) -> None:
    writer = EventWriter(own_store.address, config.state, timeout_s=5.0, retry_after_ms=50)
    writer.start()
    try:
        await write(writer, decoder, event(event_id="a"))
        await asyncio.to_thread(own_store.stop)
        with pytest.raises(StoreIsDown):
            await write(writer, decoder, event(event_id="b"))
        await asyncio.to_thread(own_store.start)
        receipt = await write(writer, decoder, event(event_id="a"), event(event_id="b"))
    finally:
        await writer.stop()
    assert receipt.written_count + receipt.duplicate_count == 2


async def test_a_restart_between_two_writes_is_not_seen(
    own_store: StoreProcess, config: ServerConfig, decoder: EventDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "IDLE_S", 0.0)
    writer = EventWriter(own_store.address, config.state, timeout_s=5.0, retry_after_ms=50)
    writer.start()
    try:
        await write(writer, decoder, event(event_id="a"))
        await asyncio.to_thread(own_store.stop)
        await asyncio.to_thread(own_store.start)
        assert (await write(writer, decoder, event(event_id="b"))).written_count == 1
    finally:
        await writer.stop()


async def test_a_store_that_hangs_is_given_up(store: StoreProcess, config: ServerConfig, decoder: EventDecoder) -> None:
    writer = EventWriter(store.address, config.state, timeout_s=0.2, retry_after_ms=50)
    writer.start()
    try:
        store.client.client_pause(5_000)
        began_s = time.monotonic()
        with pytest.raises(StoreIsDown):
            await write(writer, decoder, event())
        assert time.monotonic() - began_s < 2.0
    finally:
        store.client.execute_command("CLIENT", "UNPAUSE")
        await writer.stop()


async def test_a_full_store_refuses_and_keeps_nothing(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    store.client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreIsFull):
            await write(writer, decoder, event(event_id="a"))
    finally:
        store.client.config_set("maxmemory", "0")
    assert store.client.dbsize() == 0
    assert (await write(writer, decoder, event(event_id="a"))).written_count == 1


async def test_when_one_person_fails_the_request_fails_and_its_repetition_writes_the_rest(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    store.client.lpush(log_key(shard("bad")), "no stream")
    both = (event(event_id="a"), event(event_id="b", user_id="bad"))
    with pytest.raises(Exception, match="refused a command"):
        await write(writer, decoder, *both)
    assert items(store, user_key("u")) == hashes("i")
    store.client.delete(log_key(shard("bad")))
    receipt = await write(writer, decoder, *both)
    assert (receipt.written_count, receipt.duplicate_count) == (1, 1)


async def test_signing_in_takes_the_visitors_state_over(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    def anonymous(**fields: Any) -> pb.Event:
        return event(user_id="", visitor_id="v", **fields)

    await write(writer, decoder, event(item_id="mine"))
    await write(writer, decoder, anonymous(item_id="seen", event_id="e"), anonymous(event_type="add_to_cart"))
    await write(writer, decoder, event(visitor_id="v", item_id="now"))
    [deed, *signals] = items(store, user_key("u"))
    assert deed == item_hash("i")
    assert sorted(signals) == sorted(hashes("mine", "seen", "now"))
    assert items(store, visitor_key("v")) == []
    assert set(store.client.smembers(alias_key("u"))) == {b"v"}
    assert [logged.signs_in for logged in read_log(store.client, 0, FOREVER_MS)].count(True) == 1
    repeated = await write(writer, decoder, event(visitor_id="v", event_id="e"))
    assert repeated.duplicate_count == 1


async def test_what_a_visitor_did_is_not_written_again_when_it_is_sent_again_after_the_sign_in(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    seen = event(user_id="", visitor_id="v", item_id="seen", event_id="e1")
    signing_in = event(visitor_id="v", item_id="now", event_id="e2")
    for _ in range(3):  # a stream that broke before it was acknowledged
        await write(writer, decoder, seen)
        await write(writer, decoder, signing_in)
    assert [logged.event_id for logged in read_log(store.client, 0, FOREVER_MS)].count("e1") == 1
    assert sorted(items(store, user_key("u"))) == sorted(hashes("seen", "now"))
    assert items(store, visitor_key("v")) == []
    assert 0 < store.client.pttl(visitor_key("v")) <= 86_400_000


async def test_what_a_known_visitor_does_alone_is_taken_over_at_the_next_event_with_both_ids(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder
) -> None:
    await write(writer, decoder, event(visitor_id="v", item_id="1"))
    await write(writer, decoder, event(user_id="", visitor_id="v", item_id="2"))
    await write(writer, decoder, event(visitor_id="v", item_id="3"))
    assert sorted(items(store, user_key("u"))) == sorted(hashes("1", "2", "3"))
    assert store.client.get(visitor_key("v")) is None


async def test_too_many_waiting_events_are_refused(
    writer: EventWriter, decoder: EventDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "WAITING_EVENTS_MAX", 3)
    batch = decoder.decode([event(), event()], NOW_S)
    first = writer.submit(batch)
    with pytest.raises(QueueFull):
        writer.submit(batch)
    await asyncio.wait_for(writer.until_room(), 5)
    assert (await first).written_count == 2


async def test_stopping_writes_what_waits_and_refuses_the_rest(
    store: StoreProcess, config: ServerConfig, decoder: EventDecoder
) -> None:
    writer = EventWriter(store.address, config.state, timeout_s=5.0, retry_after_ms=50)
    writer.start()
    waiting = writer.submit(decoder.decode([event()], NOW_S))
    await writer.stop()
    assert waiting.result().written_count == 1
    with pytest.raises(ShuttingDown):
        writer.submit(decoder.decode([event()], NOW_S))
