"""A connector, killed and started again, and a replay, against the real server with its real store."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from server.events.log import read_log
from server.state.keys import SHARD_COUNT, log_key, user_key
from server.state.packed import unpack
from server.store.connection import connect
from server.store.layout import StoreDirectory
from tests.conftest import SmallGeneration
from tests.end_to_end.processes import command, server, server_config
from tests.server.connect.conftest import process, quarantined, rows, write_jsonl
from tests.server.waiting import until

LATER_MS = 2**52


def log_length(store: Any) -> int:
    """Entries of the log, in one round trip."""
    asked = store.pipeline(transaction=False)
    for shard in range(SHARD_COUNT):
        asked.xlen(log_key(shard))
    return sum(asked.execute())


async def test_what_a_killed_connector_delivers_is_in_the_log_and_the_states_once(
    small_generation: SmallGeneration, tmp_path: Path
) -> None:
    config = server_config(tmp_path, small_generation.root)
    with config.open("a") as file:
        file.write(f'[store]\ndirectory = "{tmp_path / "store"}"\n')
    wrong = {**rows(1)[0], "event_type": "gaze"}
    table: list[object] = [*rows(20_000), wrong, "damaged"]
    views = write_jsonl(tmp_path / "views.jsonl", table)
    address = StoreDirectory(tmp_path / "store").address
    async with server(config) as running:
        arguments = ("file", running.target, views, "--in-flight", 1)
        with connect(address, timeout_s=5.0) as store:
            with process(tmp_path, *arguments) as connector:
                await until(lambda: log_length(store) >= 3_000)
                connector.send_signal(signal.SIGKILL)
                connector.wait()
            assert 3_000 <= log_length(store) < 20_000
            with process(tmp_path, *arguments) as connector:
                assert await asyncio.to_thread(connector.wait, 60) == 0
            ids = Counter(event.event_id for event in read_log(store, 0, LATER_MS))
            assert (len(ids), max(ids.values())) == (20_000, 1)
            states = unpack([store.get(user_key(f"u{number}")) for number in range(20)])
            assert len(states) == 20
            assert (states.last_ms > 0).all()
            for begin, end in zip(states.offsets, states.offsets[1:], strict=False):
                items = states.events["item_hash"][begin:end].tolist()
                assert len(items) == len(set(items)) == 64  # the newest 64 views, none doubled
        lines = quarantined(tmp_path / "connect-quarantine.jsonl")
        assert [(line["reason"], line["place"]) for line in lines] == [
            ("no_json", "views.jsonl:20002"),  # seen before it is sent, the other by the server
            ("invalid_field", "views.jsonl:20001"),
        ]
        assert "'gaze' is no event type here" in lines[1]["detail"]
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0


async def test_a_store_that_is_killed_is_waited_for(small_generation: SmallGeneration, tmp_path: Path) -> None:
    config = server_config(tmp_path, small_generation.root)
    with config.open("a") as file:
        file.write(f'[store]\ndirectory = "{tmp_path / "store"}"\n')
    views = write_jsonl(tmp_path / "views.jsonl", rows(20_000))
    async with server(config) as running:
        with (
            connect(StoreDirectory(tmp_path / "store").address, timeout_s=5.0) as store,
            process(tmp_path, "file", running.target, views) as connector,
        ):
            await until(lambda: log_length(store) >= 2_000)
            os.kill(int(store.info("server")["process_id"]), signal.SIGKILL)
            assert await asyncio.to_thread(connector.wait, 60) == 0
            ids = Counter(event.event_id for event in read_log(store, 0, LATER_MS))
            assert (len(ids), max(ids.values())) == (20_000, 1)
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0


async def test_a_replay_is_in_the_log(
    small_generation: SmallGeneration, small_shop_config: Path, tmp_path: Path
) -> None:
    config = server_config(tmp_path, small_generation.root)
    with config.open("a") as file:
        file.write(f'[store]\ndirectory = "{tmp_path / "store"}"\n[events.types]\ncart = "deed"\nrating = "deed"\n')
    work = f'work_dir = "{small_generation.config.shop.work_dir}"'
    shop = tmp_path / "shop.toml"
    shop.write_text(small_shop_config.read_text().replace('work_dir = "var/small"', work))
    async with server(config) as running:
        times = ("--from", "2026-09-01", "--to", "2026-09-15", "--speed-up", 0)
        await command("client.replay", shop, "--target", running.target, *times)
        with connect(StoreDirectory(tmp_path / "store").address, timeout_s=5.0) as store:
            logged = list(read_log(store, 0, LATER_MS))
        times_s = small_generation.dataset.events.time_s
        replayed = [int(event.event_id.removeprefix("replay/")) for event in logged]
        assert len(set(replayed)) == len(replayed) > 100
        assert all(times_s[row] == event.time_s for row, event in zip(replayed, logged, strict=True))
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
