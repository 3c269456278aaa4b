"""A purged person is gone from state and log at once; generations that hold one are named and pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twinrank.v1 import events_pb2 as pb
from typer.testing import CliRunner

from index.__main__ import app
from index.generation import GenerationWriter, list_generations, set_current
from index.generation.positions import POSITIONS_FILE, LivePositions
from index.item_ids import ItemIds
from server.events.decoding import EventDecoder
from server.events.log import read_log
from server.events.purge_list import holds, read_purges
from server.events.purging import purge
from server.events.writer import EventWriter
from server.state.keys import CHANGES_KEY, alias_key, user_key, visitor_key
from server.state.packed import unpack
from tests.contract.calls import failure_of
from tests.server.conftest import TOKEN, make_config, serve
from tests.server.events.test_decoding import at, event
from tests.server.events.test_writer import FOREVER_MS, write
from tests.server.statuses import fields_of, reason_of
from tests.server.store_process import StoreProcess
from tests.server.stubs import event_stub

AUTHORIZED = (("authorization", f"Bearer {TOKEN}"),)


def publish(root: Path, users: list[str], **positions: Any) -> str:
    with GenerationWriter(root) as writer:
        writer.add_bytes("users.ids", ItemIds.from_ids(users).to_bytes())
        writer.add_bytes(POSITIONS_FILE, LivePositions(**{"files_until_s": 0, **positions}).model_dump_json().encode())
        return writer.publish({"item_count": 1, "number": len(list_generations(root))})


async def test_everything_of_the_user_and_of_the_visitors_that_became_the_user_is_removed(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder, tmp_path: Path
) -> None:
    anonymous = event(user_id="", visitor_id="v", item_id="before")
    await write(writer, decoder, anonymous, event(user_id="", visitor_id="other"))
    await write(writer, decoder, event(visitor_id="v", event_id="e"), event(event_type="purchase"), event(user_id="w"))
    await write(writer, decoder, event(user_id="", visitor_id="v", item_id="afterwards"))
    receipt = purge(store.client, tmp_path, "u", "")
    assert (receipt.log_event_count, receipt.state_event_count) == (4, 4)
    assert receipt.visitor_ids == ("v",)
    left = [(logged.user_id, logged.visitor_id) for logged in read_log(store.client, 0, FOREVER_MS)]
    assert sorted(left) == [("", "other"), ("w", "")]
    states = unpack([store.client.get(user_key("u")), store.client.get(visitor_key("v"))])
    assert len(states.events) == 0
    assert ((receipt.purged_ms - 1_000 < states.purged_ms) & (states.purged_ms <= receipt.purged_ms)).all()
    assert store.client.pttl(user_key("u")) == -1
    assert not store.client.exists(alias_key("u"))
    assert [entry.person for entry in read_purges(store.client)] == ["u:u", "v:v"]
    changes = [fields[b"id"] for _, fields in store.client.xrange(CHANGES_KEY)]
    assert changes == [b"u:u", b"v:v"]


async def test_a_purged_person_may_come_back_and_what_was_before_does_not(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder, tmp_path: Path
) -> None:
    await write(writer, decoder, event(event_id="a", time=at(1_000)))
    receipt = purge(store.client, tmp_path, "u", "")
    now_s = receipt.purged_ms / 1000 + 1
    again = await writer.write(decoder.decode([event(event_id="a", time=at(1_000)), event(event_id="b")], now_s))
    assert (again.written_count, again.duplicate_count) == (1, 1)
    states = unpack([store.client.get(user_key("u"))])
    assert (len(states.events), states.purged_ms[0]) == (1, receipt.purged_ms)
    assert store.client.pttl(user_key("u")) == -1


async def test_generations_that_were_trained_on_the_person_are_on_the_receipt(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder, tmp_path: Path
) -> None:
    written = await write(writer, decoder, event(), event(user_id="", visitor_id="v"))
    by_file = publish(tmp_path, ["x", "u"])
    by_log = publish(tmp_path, ["x"], log_until_ms=int(written.last_ms))
    before = publish(tmp_path, ["x"], log_until_ms=int(written.last_ms) - 1_000)
    receipt = purge(store.client, tmp_path, "u", "")
    assert receipt.generation_ids == tuple(sorted([by_file, by_log]))
    without = publish(tmp_path, ["x", "u"], log_until_ms=FOREVER_MS, purges_until_ms=int(receipt.purged_ms))
    again = purge(store.client, tmp_path, "", "v")
    assert again.generation_ids == tuple(sorted([by_log, without]))
    purges = [entry for entry in read_purges(store.client) if entry.person == "u:u"]
    assert [holds(tmp_path, each, purges) for each in (by_file, by_log, before, without)] == [True, True, False, False]
    (tmp_path / by_file / "users.ids").write_bytes(b"damaged")
    assert holds(tmp_path, by_file, purges) is None


async def test_asking_again_changes_nothing_and_still_names_the_generations(
    store: StoreProcess, writer: EventWriter, decoder: EventDecoder, tmp_path: Path
) -> None:
    written = await write(writer, decoder, event())
    by_log = publish(tmp_path, ["x"], log_until_ms=int(written.last_ms))
    purge(store.client, tmp_path, "u", "")
    again = purge(store.client, tmp_path, "u", "")
    assert (again.log_event_count, again.state_event_count, again.generation_ids) == (0, 0, (by_log,))


@pytest.fixture
def prune(store: StoreProcess, tmp_path: Path) -> Callable[..., Any]:
    return lambda *options: CliRunner().invoke(
        app, ["prune", "--store", store.address.url, "--root", str(tmp_path), *options]
    )


async def test_prune_deletes_what_holds_a_purged_person_but_never_the_current_generation(
    store: StoreProcess, tmp_path: Path, prune: Callable[..., Any]
) -> None:
    old, clean, current = publish(tmp_path, ["u"]), publish(tmp_path, ["x"]), publish(tmp_path, ["u", "x"])
    set_current(tmp_path, current)
    assert "0 purged, 0 deleted" in prune().output
    purge(store.client, tmp_path, "u", "")
    dry = prune("--dry-run")
    assert dry.exit_code == 0
    assert f"{old}: would be deleted" in dry.output
    assert set(list_generations(tmp_path)) == {old, clean, current}
    done = prune()
    assert f"{old}: deleted" in done.output
    assert f"{current}: holds purged persons and is current; kept" in done.output
    assert set(list_generations(tmp_path)) == {clean, current}
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {clean, current}


def test_prune_takes_both_places_from_the_servers_configuration(store: StoreProcess, tmp_path: Path) -> None:
    publish(tmp_path / "generations", ["u"])
    purge(store.client, tmp_path / "generations", "u", "")
    config = tmp_path / "server.toml"
    config.write_text(
        f'[store]\nmode = "external"\nurl = "{store.address.url}"\n[generations]\nroot = "{tmp_path}/generations"\n'
    )
    done = CliRunner().invoke(app, ["prune", "--config", str(config)])
    assert (done.exit_code, "1 purged, 1 deleted" in done.output) == (0, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "say where store and generations are"),
        (["--store", "unix:///nowhere.sock", "--root", "."], "does not answer"),
    ],
)
def test_prune_says_in_one_line_what_is_wrong(options: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["prune", *options])
    assert done.exit_code == 1
    assert says in done.output


async def test_purge_user_over_the_admin_listener(root: Path, store: StoreProcess) -> None:
    async with serve(make_config(root), store=store.address) as running:
        await running.events.WriteEvents(pb.WriteEventsRequest(events=[event(), event()]))
        admin = event_stub(running.admin_channel)
        receipt = await admin.PurgeUser(pb.PurgeUserRequest(request_id="r", user_id="u"), metadata=AUTHORIZED)
        error = await failure_of(admin.PurgeUser(pb.PurgeUserRequest(), metadata=AUTHORIZED))
    assert (receipt.request_id, receipt.log_event_count, receipt.state_event_count) == ("r", 2, 2)
    assert receipt.purged_at.seconds > 1_700_000_000
    assert fields_of(error) == ["user_id"]


async def test_purge_user_without_a_store_and_with_one_that_is_down(root: Path, own_store: StoreProcess) -> None:
    request = pb.PurgeUserRequest(user_id="u")
    async with serve(make_config(root)) as running:
        error = await failure_of(event_stub(running.admin_channel).PurgeUser(request, metadata=AUTHORIZED))
    assert reason_of(error) == "STORE_OFF"
    own_store.stop()
    async with serve(make_config(root), store=own_store.address) as running:
        error = await failure_of(event_stub(running.admin_channel).PurgeUser(request, metadata=AUTHORIZED))
    assert reason_of(error) == "STORE_DOWN"
