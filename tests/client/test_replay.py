"""Replaying the small shop's transactions: what arrives, when, with which times; and the command around it."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
import typer
from twinrank.v1 import events_pb2 as pb
from typer.testing import CliRunner

from client.replay import replay
from client.replaying.player import Player
from client.replaying.schedule import MESSAGE_EVENTS_MAX, messages
from client.replaying.transactions import Transactions
from server.connect.delivery import Delivery
from tests.server.connect.event_server import EventServer, full, invalid
from towers.schema import Dataset, DatasetError, ShopConfig

BEGIN = datetime(2026, 9, 1, tzinfo=UTC).timestamp()
END = datetime(2026, 9, 15, tzinfo=UTC).timestamp()

app = typer.Typer()
app.command()(replay)


@pytest.fixture
def events() -> Iterator[EventServer]:
    with EventServer() as server:
        yield server


@pytest.fixture
def config(small_shop: ShopConfig, small_shop_config: Path, tmp_path: Path) -> Path:
    """The small shop's file, with the work directory into which it was ingested."""
    text = small_shop_config.read_text().replace('work_dir = "var/small"', f'work_dir = "{small_shop.shop.work_dir}"')
    path = tmp_path / "shop.toml"
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def in_range(dataset: Dataset) -> np.ndarray:
    return np.flatnonzero((dataset.events.time_s >= BEGIN) & (dataset.events.time_s < END))


def test_every_transaction_of_the_range_arrives_as_it_was(
    events: EventServer, config: Path, small_dataset: Dataset, tmp_path: Path
) -> None:
    json_file = tmp_path / "replay.json"
    status, output = run(
        config, "--target", events.target, "--from", "2026-09-01", "--to", "2026-09-15", "--speed-up", 0,
        "--json", json_file,
    )  # fmt: skip
    assert status == 0, output
    dataset = small_dataset
    rows = in_range(dataset)
    assert len(rows) > 100
    columns = dataset.events
    expected = Counter(
        (
            f"replay/{row}",
            dataset.meta.event_types[columns.event_type[row]],
            dataset.users["user_id"][int(columns.user_row[row])],
            dataset.items["item_id"][int(columns.item_row[row])],
            int(columns.time_s[row]),
        )
        for row in rows
    )
    arrived = Counter(
        (event.event_id, event.event_type, event.user_id, event.item_id, event.time.seconds) for event in events.arrived
    )
    assert arrived == expected
    times = [event.time.seconds for event in events.arrived]
    assert times == sorted(times)
    for event in events.arrived:
        row = int(event.event_id.removeprefix("replay/"))
        for name in ("quantity", "value", "rating", "dwell_s", "position"):
            number = getattr(columns, name)[row]
            assert event.HasField(name) is not bool(np.isnan(number)), name
            if event.HasField(name):
                assert getattr(event, name) == pytest.approx(number)
        device = columns.context["device"][row]
        assert dict(event.context) == ({} if device == "unknown" else {"device": device})
    figures = json.loads(json_file.read_text())
    assert (figures["sent_events"], figures["written"], figures["duplicates"]) == (len(rows), len(rows), 0)
    assert 0 < figures["acknowledgement"]["p50_ms"] <= figures["acknowledgement"]["max_ms"]
    # Again: the same ids.
    status, output = run(
        config, "--target", events.target, "--from", "2026-09-01", "--to", "2026-09-15", "--speed-up", 0
    )
    assert (status, f"0 written, {len(rows)} duplicates" in output) == (0, True)


def test_events_are_due_by_their_times_and_the_speed_up(small_shop: ShopConfig) -> None:
    transactions = list(Transactions(small_shop.dataset_dir, BEGIN, END))
    planned = list(messages(transactions, BEGIN, 10_000.0))
    assert sum(len(message.events) for message in planned) == len(transactions)
    assert max(len(message.events) for message in planned) <= MESSAGE_EVENTS_MAX
    for message in planned:
        assert message.due_s is not None
        last = message.events[-1].time.seconds
        assert message.due_s == pytest.approx((last - BEGIN) / 10_000)
        assert message.simulated_s == last
        first_due_s = (message.events[0].time.seconds - BEGIN) / 10_000
        assert message.due_s - first_due_s < 0.01
    dues = [message.due_s for message in planned if message.due_s is not None]
    assert dues == sorted(dues)


def test_shifted_events_happen_when_they_are_due(small_shop: ShopConfig) -> None:
    transactions = Transactions(small_shop.dataset_dir, BEGIN, END)
    original = {one.event.event_id: one.time_s for one in transactions}
    shifted = [event for message in messages(transactions, BEGIN, 1_000.0, begin_s=5e8) for event in message.events]
    assert len(shifted) == len(original) == transactions.count
    for event in shifted:
        time_s = event.time.ToMicroseconds() / 1e6
        assert time_s == pytest.approx(5e8 + (original[event.event_id] - BEGIN) / 1_000, abs=1e-5)
    at_once = messages(transactions, BEGIN, 0, begin_s=5e8, now=lambda: 6e8)
    assert {event.time.seconds for message in at_once for event in message.events} == {int(6e8)}


def test_the_loop_is_open_and_a_wait_counts(events: EventServer, small_shop: ShopConfig) -> None:
    """While the server holds back its answers the schedule goes on to the bound; the delay is in the latencies."""
    transactions = Transactions(small_shop.dataset_dir, BEGIN, END)
    speed_up = (END - BEGIN) / 0.5
    delivery = Delivery(events.target, messages_in_flight_max=4)
    events.gate.clear()
    seen: list[float] = []

    def look(progress: object, _: str) -> None:
        seen.append(delivery.in_flight)
        if len(seen) == 12:
            events.gate.set()

    player = Player(delivery, look)
    player.play(messages(transactions, BEGIN, speed_up))
    delivery.close()
    assert max(seen) == 4
    assert player.progress.acknowledged_events == transactions.count == len(events.ids)
    # Twelve looks of up to a tenth of a second each went by before the first answer.
    assert player.progress.latency.max_ms > 200
    assert player.progress.lag_s_max > 0.1


def test_a_server_that_refuses_for_a_while_gets_everything_in_the_end(events: EventServer, config: Path) -> None:
    refusals = iter([None, full(), None])
    events.refuse = lambda _: next(refusals, None)
    events.break_after = 5
    status, output = run(
        config, "--target", events.target, "--from", "2026-09-01", "--to", "2026-09-15", "--speed-up", 2_000_000
    )
    assert status == 0, output
    assert max(events.ids.values()) == 1
    assert events.stream_count == 2


def test_refused_events_are_counted_and_the_status_says_so(events: EventServer, config: Path) -> None:
    def no_views(request: pb.StreamEventsRequest) -> pb.EventsError | None:
        fields = [f"events[{i}].event_type" for i, event in enumerate(request.events) if event.event_type == "view"]
        return invalid(*fields, message=f"{fields[0]}: 'view' is no event type here") if fields else None

    events.refuse = no_views
    status, output = run(
        config, "--target", events.target, "--from", "2026-09-01", "--to", "2026-09-02", "--speed-up", 0
    )
    assert status == 1
    assert "is no event type here" in output
    assert events.arrived
    assert "view" not in {event.event_type for event in events.arrived}


def test_a_terminal_sees_the_replay_go_on(events: EventServer, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("client.replaying.screen.REFRESH_S", 0.01)
    status, output = run(
        config, "--target", events.target, "--from", "2026-09-01", "--to", "2026-09-03", "--speed-up", 500_000
    )
    assert status == 0
    assert "2026-09-01" in output
    assert "acknowledged · lag" in output


def test_stopping_sends_no_more_and_hears_what_is_on_its_way(events: EventServer, small_shop: ShopConfig) -> None:
    transactions = Transactions(small_shop.dataset_dir, BEGIN, END)
    delivery = Delivery(events.target)
    player = Player(delivery, lambda progress, _: player.stop() if progress.sent_events > 50 else None)
    player.play(messages(transactions, BEGIN, 1_000_000.0))
    delivery.close()
    assert 50 < player.progress.sent_events < transactions.count
    assert player.progress.acknowledged_events == player.progress.sent_events == len(events.arrived)


def test_wrong_asks_are_said(
    events: EventServer, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.replay.CONNECT_TIMEOUT_S", 0.2)
    times = ("--from", "2026-09-01", "--to", "2026-09-02")
    with EventServer() as gone:
        nobody = gone.target
    for arguments, words in (
        ((config, "--target", "192.0.2.1:50051", *times), "--allow-remote"),
        ((config, "--target", nobody, *times), "no server answers at"),
        ((config, "--target", events.target, "--from", "2001-01-01", "--to", "2001-01-02"), "no event from 2001-01-01"),
    ):
        status, output = run(*arguments)
        assert (status, words in output) == (2, True), output
    with pytest.raises(DatasetError, match="no dataset here"):
        Transactions(tmp_path, BEGIN, END)
    events.refuse = lambda _: pb.EventsError(
        code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message="the store is off"
    )
    status, output = run(config, "--target", events.target, *times, "--speed-up", 0)
    assert (status, "the store is off" in output) == (2, True)
