"""Mapping files and values: what becomes of a row, and what is said about one that is wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.connect.errors import BadRow, MappingInvalid
from server.connect.mapper import Mapper
from server.connect.mapping import Mapping, TimeFormat, read_mapping
from server.connect.quarantine import Quarantine
from server.connect.record import EVENT_ID_BYTES_MAX, Record, event_id_of
from server.connect.values import time_of

NOON_S = 1_793_534_400.0  # 2026-11-01T12:00:00Z
GOOD = {"event_type": "view", "user_id": "u", "item_id": "i"}


def mapped(row: dict[str, Any], mapping: Mapping | None = None, arrived_ms: int | None = None) -> Any:
    record = Record("file:1", "derived", row, row, arrived_ms)
    return Mapper(mapping or Mapping()).event(record)


@pytest.mark.parametrize(
    ("value", "kind", "zone"),
    [
        ("2026-11-01T12:00:00Z", TimeFormat.AUTO, "UTC"),
        ("2026-11-01 12:00:00", TimeFormat.AUTO, "UTC"),
        ("2026-11-01T13:00:00", TimeFormat.ISO8601, "Europe/Zurich"),
        ("2026-11-01T15:00:00+03:00", TimeFormat.AUTO, "Europe/Zurich"),
        (1_793_534_400, TimeFormat.AUTO, "UTC"),
        ("1793534400.0", TimeFormat.AUTO, "UTC"),
        (1_793_534_400_000, TimeFormat.AUTO, "UTC"),
        ("1793534400000", TimeFormat.EPOCH_MS, "UTC"),
        (1_793_534_400.0, TimeFormat.EPOCH_S, "UTC"),
        (datetime(2026, 11, 1, 12, tzinfo=UTC), TimeFormat.EPOCH_S, "UTC"),
        (datetime(2026, 11, 1, 13), TimeFormat.AUTO, "Europe/Zurich"),
    ],
)
def test_a_time_is_read_as_it_is_written(value: Any, kind: TimeFormat, zone: str) -> None:
    assert time_of(value, kind, ZoneInfo(zone)) == NOON_S


def test_a_day_is_its_beginning() -> None:
    assert time_of(date(2026, 11, 1), TimeFormat.AUTO, UTC) == NOON_S - 12 * 3600
    assert time_of("20261101", TimeFormat.AUTO, UTC) == NOON_S - 12 * 3600
    assert time_of("2026-11-01", TimeFormat.AUTO, UTC) == NOON_S - 12 * 3600


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("yesterday", TimeFormat.AUTO),
        (True, TimeFormat.AUTO),
        (-1, TimeFormat.EPOCH_S),
        ("1e400", TimeFormat.EPOCH_S),
        ("nan", TimeFormat.EPOCH_MS),
        (1_793_534_400, TimeFormat.ISO8601),
        ({}, TimeFormat.AUTO),
        ("9" * 30, TimeFormat.AUTO),
    ],
)
def test_what_is_no_time_is_said(value: Any, kind: TimeFormat) -> None:
    with pytest.raises(BadRow, match="bad_time"):
        time_of(value, kind, UTC)


def test_a_mapping_file_moves_fields_and_knows_constants(tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text("""
[fields]
user_id = "customer.id"
item_id = "sku"
session_id = ""
"query" = "a.b"
[constants]
event_type = "purchase"
quantity = 2
[context]
device = "agent.device"
[time]
format = "epoch_s"
""")
    event = mapped(
        {
            "customer": {"id": 17}, "sku": "i", "session_id": "s", "time": "1793534400", "agent": {"device": "phone"},
            "value": "3.5", "a.b": "shoes",
        },
        read_mapping(file),
    )  # fmt: skip
    assert (event.user_id, event.item_id, event.session_id, event.event_type) == ("17", "i", "", "purchase")
    assert (event.quantity, event.value, event.query, event.event_id) == (2, 3.5, "shoes", "derived")
    assert dict(event.context) == {"device": "phone"}
    assert event.time.ToDatetime(UTC).timestamp() == NOON_S
    assert mapped({"customer": {"id": "u"}, "quantity": 5}, read_mapping(file)).quantity == 5  # the row's own wins


def test_event_types_are_translated_left_out_or_kept() -> None:
    mapping = Mapping(event_types={"page_view": "view", "heartbeat": ""})
    assert mapped({**GOOD, "event_type": "page_view"}, mapping).event_type == "view"
    assert mapped({**GOOD, "event_type": "heartbeat"}, mapping) is None
    assert mapped({**GOOD, "event_type": "wish"}, mapping).event_type == "wish"


def test_a_row_may_bring_its_own_id_and_time() -> None:
    assert mapped({**GOOD, "event_id": "order-1"}).event_id == "order-1"
    assert mapped(GOOD, arrived_ms=1_500).time.ToMilliseconds() == 1_500
    assert mapped({**GOOD, "time": 2}, arrived_ms=1_500).time.ToMilliseconds() == 2_000
    assert not mapped(GOOD).HasField("time")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"event_type": "view", "item_id": "i"}, "no_person"),
        ({"user_id": "u"}, "no_event_type"),
        ({**GOOD, "user_id": 1.5}, "wrong_type"),
        ({**GOOD, "user_id": True}, "wrong_type"),
        ({**GOOD, "context": "phone"}, "wrong_type"),
        ({**GOOD, "context": {"device": ["phone"]}}, "wrong_type"),
        ({**GOOD, "position": -1}, "no_number"),
        ({**GOOD, "position": 1.5}, "no_number"),
        ({**GOOD, "rating": "inf"}, "no_number"),
        ({**GOOD, "value": False}, "no_number"),
    ],
)
def test_a_row_that_is_no_event_has_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        mapped(row)
    assert caught.value.reason == reason


def test_empty_values_are_nothing() -> None:
    event = mapped({**GOOD, "rating": "", "quantity": None, "value": float("nan"), "query": "", "time": ""})
    assert not any(event.HasField(name) for name in ("rating", "quantity", "value", "time"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fields]\nuser = 'customer'", "an event has no field user"),
        ("[constants]\ntime = '2026'", "time cannot be the same for every event"),
        ("[time]\nformat = 'epoch_us'", "time.format"),
        ("[time]\nzone = 'Middle/Earth'", "is no time zone"),
        ("[feilds]\nuser_id = 'x'", "feilds"),
        ("user_id = ", "not a TOML file"),
    ],
)
def test_a_wrong_mapping_file_says_what_is_wrong(text: str, words: str, tmp_path: Path, run: Any) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(text)
    with pytest.raises(MappingInvalid, match=words):
        read_mapping(file)
    (tmp_path / "rows.jsonl").write_text("")
    status, output = run("file", "127.0.0.1:1", "rows.jsonl", "--mapping", file)
    assert (status, words in " ".join(output.split())) == (2, True)


def test_a_constant_of_a_wrong_kind_is_said(tmp_path: Path, run: Any) -> None:
    (tmp_path / "mapping.toml").write_text("[constants]\nquantity = 'many'\n")
    (tmp_path / "rows.jsonl").write_text("")
    status, output = run("file", "127.0.0.1:1", "rows.jsonl", "--mapping", "mapping.toml")
    assert (status, "quantity is 'many'" in " ".join(output.split())) == (2, True)


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_derived_ids_fit_the_contract_and_differ_where_the_place_does(parts: list[str]) -> None:
    made = event_id_of("kafka", *parts)
    assert made.isprintable()
    assert len(made.encode()) <= EVENT_ID_BYTES_MAX
    assert made == event_id_of("kafka", *parts)
    assert event_id_of("kafka", *parts[:-1], parts[-1] + "x") != made


def test_a_quarantine_is_made_with_its_first_row(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    with Quarantine(path) as quarantine:
        assert not path.exists()
        quarantine.add(Record("a:1", "id", {}, b"\xff", None), "no_json", "what")
        quarantine.sync()
        assert '"row": "\\\\xff"' in path.read_text()
    assert quarantine.by_reason == {"no_json": 1}
