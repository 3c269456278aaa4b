"""`python -m towers update` over a real store: what the log brings is published, and nothing worse or half done is."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

from index.commands.rebuild import publish
from index.generation import Generation, current_id, list_generations, open_generation, set_current
from index.generation.positions import LivePositions
from index.item_ids import ItemIds
from server.events.domain import LoggedEvent
from server.events.log_entry import encode
from server.events.purging import purge
from server.state.keys import log_key, shard
from tests.conftest import SmallModel
from tests.end_to_end.processes import command
from tests.server.store_process import StoreProcess
from towers.commands.one_update import Update
from towers.commands.train import exact_search
from towers.schema import Dataset, ShopConfig, load_dataset, read_shop_config
from towers.training.run import TrainingRun
from towers.updating.archive import EventArchive
from towers.updating.recipe import Recipe

DAY_S = 86_400
LOG_DAYS = 24
"""The newest days of the small shop, which its files end before and the log brings."""
RECIPE = Recipe(questions_min=6, margin=0.2, replay_days=2, replay_reach_days=20)
PATIENCE_S = 60.0


@dataclass(frozen=True)
class LiveShop:
    """A shop of the test's own, whose files end before the newest days, with a current generation; and its store."""

    config: ShopConfig
    config_file: Path
    dataset: Dataset
    files_until_s: int
    store: StoreProcess

    def write(self, *events: LoggedEvent) -> None:
        """Puts the events into the log, in this order."""
        for event in events:
            self.store.client.xadd(log_key(shard(event.user_id or event.visitor_id)), {"e": encode(event)})

    def later_events(self, begin_day: int = 0, end_day: int = LOG_DAYS) -> list[LoggedEvent]:
        """What really happened on these days after the files' end."""
        events, names = self.dataset.events, self.dataset.meta.event_types
        begin_s, end_s = (self.files_until_s + day * DAY_S for day in (begin_day, end_day))
        users, items = self.dataset.users["user_id"].to_list(), self.dataset.items["item_id"].to_list()
        chosen = np.flatnonzero((events.time_s >= begin_s) & (events.time_s < end_s))
        return [
            event_of(users[events.user_row[row]], items[events.item_row[row]], float(events.time_s[row]), names[kind])
            for row, kind in zip(chosen, events.event_type[chosen], strict=True)
        ]

    def update(self, **changes: Any) -> Update:
        """An update in this process."""
        return Update(self.config, self.store.address.url, **({"recipe": RECIPE, "key": None, "say": print} | changes))

    @property
    def current(self) -> Generation:
        """The current generation, verified."""
        generation_id = current_id(self.config.generations_dir)
        assert generation_id is not None
        return open_generation(self.config.generations_dir, generation_id)

    @property
    def positions(self) -> LivePositions:
        """How far the current generation has followed the store."""
        return LivePositions.model_validate_json(self.current.bytes("live.json"))

    @property
    def archived(self) -> int:
        """How many events updates have kept."""
        return EventArchive(self.config.shop.work_dir / "updates").read().height

    def known(self, name: str, text: str) -> bool:
        """Whether the current generation has the item or user."""
        return ItemIds.open(self.current.path(name)).rows([text])[0] >= 0


def event_of(user_id: str, item_id: str, time_s: float, event_type: str = "purchase", **rest: Any) -> LoggedEvent:
    return LoggedEvent("", "", event_type, user_id, rest.pop("visitor_id", ""), "", item_id, time_s, **rest)


@pytest.fixture(scope="module")
def half(small_model: SmallModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """Trained and published once: a shop's config, its work directory, and where its files end."""
    directory = tmp_path_factory.mktemp("half")
    dataset = load_dataset(small_model.dataset_dir)
    files_until_s = dataset.meta.last_time_s + 1 - LOG_DAYS * DAY_S
    source = Path(__file__).parents[1] / "shops" / "small" / "shop.toml"
    end = np.datetime64(files_until_s, "s")
    text = source.read_text().replace('"var/small"', '"WORK"').replace("horizon_days = 14", "horizon_days = 10")
    text = text.replace("validation_days = 14", f"validation_days = 10\ntrain_end = {end}Z")
    (directory / "shop.toml").write_text(text.replace("cut_every_days = 7", "cut_every_days = 5"))
    work = directory / "work"
    shutil.copytree(small_model.dataset_dir, work / "dataset")
    shop = read_shop_config(directory / "shop.toml").with_work_dir(work)
    run = TrainingRun(dataset, shop.learning, exact_search, shop.run_dir, Progress(disable=True), lambda _: None)
    published = publish(shop, dataset, run.run(), None, lambda _: None)
    set_current(shop.generations_dir, published.generation_id)
    return directory / "shop.toml", work, files_until_s


@pytest.fixture
def shop(half: tuple[Path, Path, int], tmp_path: Path) -> Iterator[LiveShop]:
    source, work, files_until_s = half
    shutil.copytree(work, tmp_path / "work")
    config_file = tmp_path / "shop.toml"
    config_file.write_text(source.read_text().replace('"WORK"', f'"{tmp_path / "work"}"'))
    config = read_shop_config(config_file)
    store = StoreProcess().start()
    yield LiveShop(config, config_file, load_dataset(config.dataset_dir), files_until_s, store)
    store.close()


def test_new_events_users_and_items_are_in_the_next_generation(shop: LiveShop) -> None:
    first = shop.current.id
    new_tent = {"attributes": {"category": "tents", "brand": "Fjell", "price": 99.5}, "available": True}
    shop.store.client.hset("tr:items", "tent-from-mars", json.dumps(new_tent))
    newcomer = event_of("newcomer", "tent-from-mars", shop.files_until_s + 5.0)
    shop.write(*shop.later_events(), newcomer, event_of("u01", "nobody-has-it", shop.files_until_s + 6.0))
    said: list[str] = []
    before_ms = int(shop.store.client.time()[0]) * 1_000
    assert shop.update(say=said.append).once() in ("new data", "learned")
    assert shop.current.id != first
    assert shop.current.manifest.parent == first
    assert shop.known("users.ids", "newcomer")
    assert shop.known("items.ids", "tent-from-mars")
    assert not shop.known("items.ids", "nobody-has-it")
    assert shop.current.manifest.metadata["as_of_s"] == shop.dataset.meta.last_time_s + 1
    expected = int((shop.dataset.events.time_s < shop.files_until_s).sum()) + len(shop.later_events()) + 1
    assert shop.current.manifest.metadata["event_count"] == expected
    assert shop.positions.files_until_s == shop.files_until_s
    assert shop.positions.log_until_ms >= before_ms
    assert any("1 new users, 1 new items; left out: 1 unknown_item" in line for line in said)


def test_an_update_that_learned_says_what_it_was_judged_by(shop: LiveShop) -> None:
    shop.write(*shop.later_events())
    said: list[str] = []
    outcome = shop.update(say=said.append).once()
    metrics: Any = shop.current.manifest.metadata["metrics"]
    figures = metrics["update"]
    assert set(figures["ndcg@20"]) == {"current", "new data", "learned"}
    assert figures["tower_steps"] > 0
    assert figures["ranker_steps"] > 0
    best = max(figures["ndcg@20"][name] for name in ("new data", "learned"))
    assert figures["ndcg@20"][outcome] == best


def test_the_second_update_starts_where_the_first_ended(shop: LiveShop) -> None:
    middle = LOG_DAYS // 2
    shop.write(*shop.later_events(0, middle))
    shop.update().once()
    cut_ms, kept = shop.positions.log_until_ms, shop.archived
    assert kept == len(shop.later_events(0, middle))
    assert shop.update().once() == "nothing new"
    for number in range(64):  # the log is trimmed: what was read is not needed there any more
        shop.store.client.delete(log_key(number))
    shop.write(*shop.later_events(middle))
    shop.update().once()
    assert shop.positions.log_until_ms > cut_ms
    assert shop.archived == len(shop.later_events())
    expected = int((shop.dataset.events.time_s < shop.files_until_s).sum()) + len(shop.later_events())
    assert shop.current.manifest.metadata["event_count"] == expected


async def test_what_ranks_worse_is_refused_with_its_own_exit_status(shop: LiveShop) -> None:
    """A crowd that buys what nobody else buys, and then the shop goes on as it was."""
    first = shop.current.id
    later = [event for event in shop.later_events() if event.event_type == "purchase"]
    wanted = {event.item_id for event in later}
    junk = [item_id for item_id in shop.dataset.items["item_id"].to_list() if item_id not in wanted][:12]
    crowd = [
        event_of(f"crowd-{user}", item_id, shop.files_until_s + 3_600.0 * hour + 60.0 * place)
        for user in range(40)
        for hour in range(4)
        for place, item_id in enumerate(junk)
    ]
    shop.write(*crowd, *[event for event in later if event.time_s > shop.files_until_s + DAY_S])
    # So little time that no weight learns: what the crowd did to the items' statistics alone is judged.
    options = ("--store", shop.store.address.url, "--margin", 0, "--questions-min", 40, "--seconds-max", 0.001)
    await command("towers", "update", shop.config_file, *options, status=3)
    assert shop.current.id == first
    assert list_generations(shop.config.generations_dir) == [first]


def test_a_purged_person_is_not_in_the_next_generation(shop: LiveShop) -> None:
    shop.write(*shop.later_events())
    shop.update().once()
    kept, person = shop.archived, shop.later_events()[0].user_id
    assert shop.known("users.ids", person)
    purge(shop.store.client, shop.config.generations_dir, person, "")
    assert shop.update().once() in ("new data", "learned")
    assert not shop.known("users.ids", person)
    of_person = sum(event.user_id == person for event in shop.later_events())
    assert of_person > 0
    assert shop.archived == kept - of_person
    row = shop.dataset.users["user_id"].to_list().index(person)
    all_events = (shop.dataset.events.time_s < shop.files_until_s) & (shop.dataset.events.user_row != row)
    expected = int(all_events.sum()) + len(shop.later_events()) - of_person
    assert shop.current.manifest.metadata["event_count"] == expected


@pytest.mark.parametrize("stage", ["publish", "activate"])
async def test_a_crash_before_the_end_leaves_the_old_generation_and_loses_nothing(shop: LiveShop, stage: str) -> None:
    first = shop.current.id
    shop.write(*shop.later_events())
    code = f"""
import os, pathlib
from towers.commands.one_update import Update
from towers.schema import read_shop_config
from towers.updating.recipe import Recipe
crash = lambda stage: os._exit(9) if stage == {stage!r} else None
shop = read_shop_config(pathlib.Path({str(shop.config_file)!r}))
Update(shop, {shop.store.address.url!r}, Recipe(questions_min=6), None, print, on_stage=crash).once()
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 9
    assert shop.current.id == first
    assert shop.archived == len(shop.later_events())
    assert shop.update().once() in ("new data", "learned")
    assert shop.current.id != first
    expected = int((shop.dataset.events.time_s < shop.files_until_s).sum()) + len(shop.later_events())
    assert shop.current.manifest.metadata["event_count"] == expected


def test_a_generation_that_became_current_meanwhile_stays(shop: LiveShop) -> None:
    from towers.commands.one_update import UpdateError

    root = shop.config.generations_dir
    shop.write(*shop.later_events(0, 3))
    shop.update().once()
    rolled_back_to = list_generations(root)[0]

    def meddle(stage: str) -> None:
        if stage == "activate":
            set_current(root, rolled_back_to)

    shop.write(*shop.later_events(3, 6))
    with pytest.raises(UpdateError, match="published, not activated"):
        shop.update(on_stage=meddle).once()
    assert shop.current.id == rolled_back_to


async def test_watch_survives_a_dead_store_and_ends_cleanly(shop: LiveShop) -> None:
    first = shop.current.id
    shop.store.stop()
    arguments = ("--store", shop.store.address.url, "--watch", "--every", "0.2", "--margin", "1")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "towers", "update", str(shop.config_file), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert b"StoreUnavailable" in await process.stderr.readline()
            shop.store.start()
            shop.write(*shop.later_events(0, 3))
            while b"(current)" not in await process.stdout.readline():
                pass
        assert shop.current.id != first
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0
        assert output.endswith(b"ended\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_one_update_at_a_time_and_errors_in_one_line(shop: LiveShop) -> None:
    import fcntl

    updates = shop.config.shop.work_dir / "updates"
    updates.mkdir()
    with (updates / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = await command("towers", "update", shop.config_file, "--store", shop.store.address.url, status=1)
    assert said.startswith("error: another update of")
    said = await command("towers", "update", shop.config_file, "--store", "unix:///nowhere/valkey.sock", status=1)
    assert said.startswith("error: the store does not answer")
