"""Files delivered: every kind, damaged rows, resuming, also after kill -9."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from twinrank.v1 import events_pb2 as pb

from server.connect import files as files_module
from server.connect.errors import OffsetsInvalid, SourceUnusable
from server.connect.files import FileSource
from server.connect.offsets import FileOffset, OffsetFile
from tests.server.connect.conftest import process, quarantined, rows, write_jsonl
from tests.server.connect.event_server import EventServer
from tests.server.waiting import until_in_thread

SOME = rows(250)


def write_csv(path: Path, table: list[dict[str, Any]]) -> Path:
    pl.DataFrame(table).write_csv(path)
    return path


def write_parquet(path: Path, table: list[dict[str, Any]]) -> Path:
    pl.DataFrame(table).write_parquet(path)
    return path


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_arrives_once_in_order(kind: str, events: EventServer, run: Any, tmp_path: Path) -> None:
    file = WRITERS[kind](tmp_path / f"views.{kind}", SOME)
    status, output = run("file", events.target, file)
    assert status == 0, output
    assert [event.item_id for event in events.arrived] == [row["item_id"] for row in SOME]
    assert [event.time.seconds for event in events.arrived] == [row["time"] for row in SOME]
    assert {(event.user_id, event.event_type) for event in events.arrived} == {(f"u{i}", "view") for i in range(20)}
    assert max(events.ids.values()) == 1
    assert events.messages == [100, 100, 50]
    assert "250 written" in " ".join(output.split())
    # Again: nothing is left to do, and only what was appended is read.
    status, output = run("file", events.target, file)
    assert (status, len(events.arrived)) == (0, 250)


def test_what_was_appended_is_delivered_by_the_next_run(events: EventServer, run: Any, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "views.jsonl", SOME[:120])
    run("file", events.target, file)
    with file.open("a") as opened:
        opened.write(json.dumps(SOME[120]) + "\n")
    run("file", events.target, file)
    assert [event.item_id for event in events.arrived] == [f"i{i}" for i in range(121)]


def test_another_file_of_the_same_name_is_read_from_its_start(events: EventServer, run: Any, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "views.jsonl", SOME[:20])
    run("file", events.target, file)
    write_jsonl(file, SOME[20:50])
    status, output = run("file", events.target, file)
    assert status == 0
    assert "delivered from its start" in output
    assert len(events.ids) == 50


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_long_file_is_held_in_parts(
    suffix: str, events: EventServer, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "CHUNK_ROWS", 64)
    file = WRITERS[suffix](tmp_path / f"views.{suffix}", rows(1_000))
    assert run("file", events.target, file, "--in-flight", 2)[0] == 0
    assert [event.item_id for event in events.arrived] == [f"i{i}" for i in range(1_000)]


def test_damaged_lines_are_put_aside_with_reason_and_place(events: EventServer, run: Any, tmp_path: Path) -> None:
    good = {"event_type": "view", "user_id": "u1", "item_id": "i1"}
    file = write_jsonl(
        tmp_path / "mixed.jsonl",
        [
            good,
            '{"event_type": "vi',
            "[1, 2]",
            {"event_type": "view", "item_id": "i2"},
            {"user_id": "u1", "item_id": "i2"},
            {**good, "time": "yesterday"},
            {**good, "quantity": "three"},
            {**good, "item_id": {"sku": 1}},
            {**good, "user_id": "\ud800"},
            good,
        ],
    )
    status, output = run("file", events.target, file, "--quarantine", "bad.jsonl")
    assert status == 0, output
    assert len(events.arrived) == 2
    lines = quarantined(tmp_path / "bad.jsonl")
    assert [(line["reason"], line["place"]) for line in lines] == [
        ("no_json", "mixed.jsonl:2"),
        ("no_json", "mixed.jsonl:3"),
        ("no_person", "mixed.jsonl:4"),
        ("no_event_type", "mixed.jsonl:5"),
        ("bad_time", "mixed.jsonl:6"),
        ("no_number", "mixed.jsonl:7"),
        ("wrong_type", "mixed.jsonl:8"),
        ("wrong_type", "mixed.jsonl:9"),
    ]
    assert "yesterday" in lines[4]["detail"]
    assert lines[0]["row"] == '{"event_type": "vi\n'
    words = " ".join(output.split())
    assert "10 read" in words
    assert "2 quarantined: wrong_type" in words


def test_damaged_rows_of_csv_do_not_take_others_with_them(events: EventServer, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "mixed.csv"
    file.write_bytes(
        b"event_type,user_id,item_id,query\n"
        b"view,u1,i1,\n"
        b"view,u1\n"
        b'search,u1,,"red\nshoes"\n'
        b"view,u1,i3,,,\n"
        b"view,\xff\xfe,i4,\n"
        b"\n"
        b'view,u1,i5,"never closed\n'
        b"view,u1,i6,\n"
        b"view,u1,i7,"
    )
    status, output = run("file", events.target, file, "--quarantine", "bad.jsonl")
    assert status == 0, output
    assert [(event.item_id, event.query) for event in events.arrived] == [
        ("i1", ""),
        ("", "red\nshoes"),
        ("i6", ""),
        ("i7", ""),
    ]
    lines = quarantined(tmp_path / "bad.jsonl")
    assert [(line["reason"], line["row"]) for line in lines] == [
        ("no_csv", "view,u1\n"),
        ("no_csv", "view,u1,i3,,,\n"),
        ("no_utf8", "view,\\xff\\xfe,i4,\n"),
        ("no_csv", 'view,u1,i5,"never closed\n'),
    ]


def test_parquet_holds_times_and_missing_values(events: EventServer, run: Any, tmp_path: Path) -> None:
    moment = datetime(2026, 11, 1, 12, tzinfo=UTC)
    pl.DataFrame(
        {
            "event_type": ["rate", "view"],
            "user_id": [17, 18],
            "item_id": ["a", None],
            "rating": [4.5, float("nan")],
            "time": [moment, None],
            "context": [{"device": "phone"}, {"device": None}],
        }
    ).write_parquet(tmp_path / "some.parquet")
    assert run("file", events.target, tmp_path / "some.parquet")[0] == 0
    first, second = events.arrived
    assert (first.user_id, first.rating, first.time.seconds) == ("17", 4.5, int(moment.timestamp()))
    assert dict(first.context) == {"device": "phone"}
    assert (second.user_id, second.HasField("rating"), second.HasField("time")) == ("18", False, False)
    assert dict(second.context) == {}


def test_strict_stops_at_the_first_bad_row_and_the_next_run_begins_there(
    events: EventServer, run: Any, tmp_path: Path
) -> None:
    table: list[object] = [*SOME[:150], "damaged", *SOME[150:]]
    file = write_jsonl(tmp_path / "views.jsonl", table)
    status, output = run("file", events.target, file, "--strict")
    assert status == 1
    assert "views.jsonl:151: no_json" in output
    write_jsonl(file, SOME)  # mended
    assert run("file", events.target, file, "--strict")[0] == 0
    assert len(events.ids) == 250


def test_a_connector_that_was_killed_goes_on_and_doubles_nothing(events: EventServer, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "views.jsonl", rows(20_000))
    offsets = tmp_path / "offsets.json"
    arguments = ("file", events.target, file, "--offsets", offsets)
    for at_least in (3_000, 9_000):
        with process(tmp_path, *arguments) as running:
            until_in_thread(lambda at_least=at_least: events.written_count >= at_least and offsets.exists())
            running.send_signal(signal.SIGKILL)
            running.wait()
        with OffsetFile(offsets) as known:
            assert known.of(file).rows <= events.written_count < 20_000  # type: ignore[union-attr]
    with process(tmp_path, *arguments) as running:
        assert running.wait(60) == 0
    assert len(events.ids) == 20_000
    assert max(events.ids.values()) == 1
    assert 20_000 < len(events.arrived) < 20_000 + 2 * 3_000  # something came twice, but not everything


def test_sigterm_commits_what_was_acknowledged_and_ends_well(events: EventServer, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "views.jsonl", rows(20_000))
    arguments = ("file", events.target, file, "--offsets", tmp_path / "offsets.json")
    with process(tmp_path, *arguments) as running:
        until_in_thread(lambda: len(events.arrived) >= 500)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    arrived = len(events.arrived)
    assert arrived < 20_000
    with OffsetFile(tmp_path / "offsets.json") as offsets:
        assert offsets.of(file).rows == arrived  # type: ignore[union-attr]


def test_an_offset_file_is_replaced_in_one_step_and_held_by_one(tmp_path: Path) -> None:
    file, data = tmp_path / "offsets.json", tmp_path / "a.csv"
    with OffsetFile(file) as offsets:
        offsets.commit({data: FileOffset(rows=1, next_byte=10, head_bytes=2, head="ab")})
        inode = file.stat().st_ino
        offsets.commit({tmp_path / "b.csv": FileOffset(rows=2, next_byte=20, head_bytes=2, head="cd")})
        assert file.stat().st_ino != inode  # never written over in place
        with pytest.raises(OffsetsInvalid, match="in use"):
            OffsetFile(file)
    with OffsetFile(file) as again:
        assert again.of(data) == FileOffset(rows=1, next_byte=10, head_bytes=2, head="ab")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["offsets.json", "offsets.json.lock"]
    file.write_text('{"version": 1, "fil')
    with pytest.raises(OffsetsInvalid, match="cannot be read"):
        OffsetFile(file)


def test_a_file_that_cannot_be_read_is_named(run: Any, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 is no Parquet file")
    for arguments, words, expected in (
        ((damaged,), "damaged.parquet: cannot be read", 1),
        ((tmp_path / "none.csv",), "there is no file", 2),
        ((write_jsonl(tmp_path / "table.xlsx", []),), "unknown kind of file", 2),
    ):
        status, output = run("file", "127.0.0.1:1", *arguments)
        assert (status, words in " ".join(output.split())) == (expected, True), output
    twice = write_jsonl(tmp_path / "twice.csv", ["a,a", "1,2"])
    source = FileSource([twice], lambda: OffsetFile(tmp_path / "offsets.json"))
    with pytest.raises(SourceUnusable, match="must name the columns"):
        source.read(1, 0)
    source.close()


def test_a_shopper_with_many_events_is_committed_before_ids_are_forgotten(
    events: EventServer, run: Any, tmp_path: Path
) -> None:
    """More events of one shopper than the server remembers ids of are never under way at once."""
    file = write_jsonl(tmp_path / "one.jsonl", [{**row, "user_id": "u"} for row in rows(1_000)])
    offsets = tmp_path / "connect-offsets.json"
    ahead = []

    def look(_: object) -> None:
        data = json.loads(offsets.read_text()) if offsets.exists() else {"files": {"": {"rows": 0}}}
        ahead.append(len(events.arrived) + 100 - next(iter(data["files"].values()))["rows"])

    events.refuse = look
    began_s = time.monotonic()
    assert run("file", events.target, file)[0] == 0
    assert len(events.ids) == 1_000
    assert max(ahead) <= 200, (ahead, time.monotonic() - began_s)


def test_a_terminal_sees_the_delivery_go_on(
    events: EventServer, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("server.connect.progress.REFRESH_S", 0.01)
    status, output = run("file", events.target, write_jsonl(tmp_path / "views.jsonl", rows(2_000)))
    assert status == 0
    assert "messages in flight" in output


def test_a_server_without_a_store_ends_the_delivery(events: EventServer, run: Any, tmp_path: Path) -> None:
    events.refuse = lambda _: pb.EventsError(code=9, message="this server has no store", reason="STORE_OFF")
    status, output = run("file", events.target, write_jsonl(tmp_path / "views.jsonl", SOME))
    assert status == 1
    assert "FAILED_PRECONDITION: this server has no store" in output
    assert "not committed" in output
    with OffsetFile(tmp_path / "connect-offsets.json") as offsets:
        assert offsets.of(tmp_path / "views.jsonl") is None
