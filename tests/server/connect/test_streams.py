"""Valkey streams delivered: a consumer group, entries pending of the killed, outages of either side."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey

from server.connect.errors import SourceUnusable
from server.connect.streams import StreamSource
from tests.server.connect.conftest import process, quarantined, rows
from tests.server.connect.event_server import EventServer
from tests.server.store_process import StoreProcess
from tests.server.waiting import until_in_thread

KEY = "shop:events"


@pytest.fixture
def url() -> Iterator[str]:
    with StoreProcess() as store:
        yield store.address.url


def pending(url: str) -> int:
    with valkey.Valkey.from_url(url) as asked:
        return int(asked.xpending(KEY, "twinrank")["pending"])


def fill(url: str, count: int) -> None:
    with valkey.Valkey.from_url(url) as filled:
        pipeline = filled.pipeline(transaction=False)
        for row in rows(count):
            pipeline.xadd(KEY, row)
        pipeline.execute()


def test_entries_arrive_once_and_are_acknowledged_to_the_group(
    url: str, events: EventServer, run: Any, tmp_path: Path
) -> None:
    fill(url, 250)
    with valkey.Valkey.from_url(url) as filled:
        filled.xadd(KEY, {"nothing": "useful"})
        filled.xadd(KEY, {b"user_id": b"\xff"})
    arguments = ("stream", events.target, "--url", url, "--key", KEY, "--idle-exit-s", 0.2)
    status, output = run(*arguments)
    assert status == 0, output
    assert [event.item_id for event in events.arrived] == [f"i{i}" for i in range(250)]
    assert max(events.ids.values()) == 1
    assert pending(url) == 0
    assert [line["reason"] for line in quarantined(tmp_path / "connect-quarantine.jsonl")] == [
        "no_event_type",
        "no_utf8",
    ]
    assert run(*arguments)[0] == 0
    assert len(events.arrived) == 250


def test_an_entry_without_a_time_has_the_time_of_its_id(url: str, events: EventServer, run: Any) -> None:
    with valkey.Valkey.from_url(url) as filled:
        row = json.dumps({"event_type": "view", "user_id": "u", "item_id": "i"})
        filled.xadd(KEY, {"e": row}, id="1793491200123-4")
    status, output = run("stream", events.target, "--url", url, "--key", KEY, "--json-field", "e", "--idle-exit-s", 0.2)
    assert status == 0, output
    (event,) = events.arrived
    assert event.time.ToMilliseconds() == 1_793_491_200_123
    assert event.event_id == f"stream/{KEY}/1793491200123-4"


def test_what_a_killed_consumer_had_read_comes_with_its_next_start(
    url: str, events: EventServer, run: Any, tmp_path: Path
) -> None:
    fill(url, 300)
    events.gate.clear()
    arguments = ("stream", events.target, "--url", url, "--key", KEY, "--consumer", "one", "--idle-exit-s", 0.2)
    with process(tmp_path, *arguments) as running:
        until_in_thread(lambda: events.waiting and pending(url) == 300)
        running.send_signal(signal.SIGKILL)
        running.wait()
    events.gate.set()
    assert run(*arguments)[0] == 0
    assert (len(events.ids), max(events.ids.values())) == (300, 1)
    assert pending(url) == 0


def test_what_a_dead_consumer_left_pending_is_claimed_by_another(url: str, events: EventServer, run: Any) -> None:
    fill(url, 150)
    dead = StreamSource(url, KEY, "twinrank", "dead")
    assert dead.read(120, 0.1) is not None
    dead.close()
    assert pending(url) == 120
    status, output = run(
        "stream", events.target, "--url", url, "--key", KEY, "--consumer", "other",
        "--claim-idle-s", 0.01, "--idle-exit-s", 0.5,
    )  # fmt: skip
    assert status == 0, output
    assert (len(events.ids), max(events.ids.values())) == (150, 1)
    assert pending(url) == 0


def test_what_another_consumer_is_still_at_is_left_to_it(url: str, events: EventServer, run: Any) -> None:
    fill(url, 150)
    busy = StreamSource(url, KEY, "twinrank", "busy")
    batch = busy.read(120, 0.1)
    assert run("stream", events.target, "--url", url, "--key", KEY, "--consumer", "b", "--idle-exit-s", 0.3)[0] == 0
    assert len(events.arrived) == 30
    assert batch is not None
    busy.commit([batch.position])
    assert pending(url) == 0
    busy.close()


def test_a_stream_that_goes_away_is_waited_for(url: str) -> None:
    fill(url, 3)
    source = StreamSource(url, KEY, "twinrank", "one")
    with valkey.Valkey.from_url(url) as other:
        other.client_kill_filter(_type="normal", skipme=True)
        first = source.read(2, 0.1)
        assert first is not None
        other.delete(KEY)
        assert source.read(2, 0.1) is None  # the group is gone with it, and is made again
        other.xadd(KEY, rows(1)[0])
        batch = source.read(2, 0.1)
        assert batch is not None
        assert len(batch.records) == 1
    source.close()


def test_what_is_no_stream_is_said(url: str, run: Any) -> None:
    with valkey.Valkey.from_url(url) as filled:
        filled.set("text", "text")
    with pytest.raises(SourceUnusable, match="the stream text cannot be read"):
        StreamSource(url, "text", "twinrank", "one")
    status, output = run("stream", "127.0.0.1:1", "--url", "unix:///nowhere", "--key", KEY)
    assert (status, "cannot be read" in " ".join(output.split())) == (2, True)
