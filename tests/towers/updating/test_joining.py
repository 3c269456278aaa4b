"""What the log brings stands in the dataset, what it cannot bring is counted, and the purged are in neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from tests.towers.updating.logs import log_of
from towers.schema import Dataset
from towers.updating.joining import Attributes, Joined, LiveFacts, join, without_purged

NEW_TENT: Attributes = {"category": "tents", "price": 99.0}


def live_items(item_ids: Sequence[str]) -> Mapping[str, Attributes]:
    return {item_id: NEW_TENT for item_id in item_ids if item_id == "tent-from-mars"}


def joined_of(
    dataset: Dataset, *events: dict[str, Any], purged: Mapping[str, float] | None = None, **how: Any
) -> Joined:
    end_s = dataset.meta.last_time_s + 1
    said = [{"time_s": end_s + 60.0, "position_ms": (end_s + 100) * 1000} | event for event in events]
    return join(
        dataset,
        how.get("catalogue", dataset.items),
        log_of(*said),
        LiveFacts(live_items, purged or {}),
        files_until_s=how.get("files_until_s", end_s),
        known_until_ms=how.get("known_until_ms", 0),
    )


def rows_of(joined: Joined, user_id: str) -> list[tuple[str, str]]:
    dataset = joined.dataset
    chosen = dataset.events.user_row == dataset.users["user_id"].to_list().index(user_id)
    items, names = dataset.items["item_id"].to_list(), dataset.meta.event_types
    return [
        (items[item], names[kind])
        for item, kind in zip(dataset.events.item_row[chosen], dataset.events.event_type[chosen], strict=True)
    ]


def test_an_event_stands_at_the_end_of_its_users_history(small_dataset: Dataset) -> None:
    joined = joined_of(small_dataset, {"user_id": "u01", "item_id": "tents-1", "context": '{"device": "phone"}'})
    assert rows_of(joined, "u01")[-1] == ("tents-1", "purchase")
    assert (joined.taken, joined.new, joined.left_out, joined.base_left_out) == (1, 1, {}, {})
    events = joined.dataset.events
    assert len(events) == len(small_dataset.events) + 1 == joined.dataset.meta.counts.rows
    assert (np.diff(events.user_row) >= 0).all()
    place = int(np.flatnonzero(events.time_s == small_dataset.meta.last_time_s + 61)[0])
    assert events.context["device"][place] == "phone"
    assert joined.dataset.meta.last_time_s == small_dataset.meta.last_time_s + 61


def test_what_cannot_be_taken_is_counted_by_its_reason(small_dataset: Dataset) -> None:
    end_s = small_dataset.meta.last_time_s + 1
    good = {"user_id": "u01", "item_id": "tents-1"}
    joined = joined_of(
        small_dataset,
        good,
        {"visitor_id": "v1", "item_id": "tents-1"},
        good | {"event_type": "wish"},
        good | {"event_type": "view", "item_id": ""},
        good | {"item_id": "nobody-has-it"},
        good | {"time_s": end_s - 5.0},
        good | {"time_s": end_s + 1_000.0},
        good | {"user_id": "u02", "time_s": end_s + 1.0},
        purged={"u:u02": (end_s + 50) * 1000.0},
    )
    assert joined.taken == 1
    assert joined.left_out == {
        "purged": 1,
        "anonymous": 1,
        "unknown_type": 1,
        "no_item": 1,
        "unknown_item": 1,
        "in_files": 1,
        "in_the_future": 1,
    }


def test_new_users_and_new_items_get_rows(small_dataset: Dataset) -> None:
    joined = joined_of(
        small_dataset,
        {"user_id": "stranger", "item_id": "tent-from-mars"},
        {"user_id": "u01", "item_id": "tent-from-mars"},
    )
    assert (joined.users, joined.items) == (1, 1)
    assert rows_of(joined, "stranger") == [("tent-from-mars", "purchase")]
    item = joined.dataset.items.filter(pl.col("item_id") == "tent-from-mars").row(0, named=True)
    assert (item["category"], item["brand"], item["price"], item["title"]) == ("tents", "unknown", 99.0, "")
    user = joined.dataset.users.filter(pl.col("user_id") == "stranger").row(0, named=True)
    assert user["city"] == "unknown"
    assert joined.dataset.items["item_id"].head(small_dataset.item_count).equals(small_dataset.items["item_id"])


def test_what_a_visitor_did_is_the_users_who_signed_in(small_dataset: Dataset) -> None:
    end_s = small_dataset.meta.last_time_s + 1
    joined = joined_of(
        small_dataset,
        {"visitor_id": "v1", "item_id": "tents-1", "event_type": "view"},
        {"visitor_id": "v1", "user_id": "u01", "signs_in": True, "item_id": "tents-2", "time_s": end_s + 70.0},
    )
    assert rows_of(joined, "u01")[-2:] == [("tents-1", "view"), ("tents-2", "purchase")]


def test_a_purged_person_is_in_neither_part_and_begins_anew(small_dataset: Dataset) -> None:
    end_s = small_dataset.meta.last_time_s + 1
    before = {"user_id": "u01", "item_id": "tents-1"}
    purged = {"u:u01": (end_s + 200) * 1000.0}
    gone = joined_of(small_dataset, before, purged=purged)
    assert "u01" not in gone.dataset.users["user_id"].to_list()
    count = int((small_dataset.events.user_row == small_dataset.users["user_id"].to_list().index("u01")).sum())
    assert gone.base_left_out == {"purged": count}
    assert len(gone.dataset.events) == len(small_dataset.events) - count
    after = before | {"time_s": end_s + 300.0, "position_ms": (end_s + 301) * 1000}
    back = joined_of(small_dataset, before, after, purged=purged)
    assert rows_of(back, "u01") == [("tents-1", "purchase")]
    assert back.dataset.users.filter(pl.col("user_id") == "u01")["city"].to_list() == ["unknown"]


def test_the_files_end_where_the_log_begins(small_dataset: Dataset) -> None:
    middle_s = (small_dataset.meta.first_time_s + small_dataset.meta.last_time_s) // 2
    joined = joined_of(small_dataset, {"user_id": "u01", "item_id": "tents-1"}, files_until_s=middle_s)
    late = int((small_dataset.events.time_s >= middle_s).sum())
    assert joined.base_left_out == {"after_files": late}
    assert len(joined.dataset.events) == len(small_dataset.events) - late + 1


def test_items_that_left_the_generations_catalogue_take_their_events_along(small_dataset: Dataset) -> None:
    catalogue = small_dataset.items.filter(pl.col("item_id") != "tents-1")
    joined = joined_of(small_dataset, {"user_id": "u01", "item_id": "tents-1"}, catalogue=catalogue)
    row = small_dataset.items["item_id"].to_list().index("tents-1")
    assert joined.base_left_out == {"unknown_item": int((small_dataset.events.item_row == row).sum())}
    assert joined.left_out == {"unknown_item": 1}


def test_only_what_came_after_the_generation_is_new(small_dataset: Dataset) -> None:
    end_ms = (small_dataset.meta.last_time_s + 1) * 1000
    good = {"user_id": "u01", "item_id": "tents-1"}
    joined = joined_of(small_dataset, good, good | {"position_ms": end_ms + 70_000}, known_until_ms=end_ms + 70_000)
    assert (joined.taken, joined.new) == (2, 1)


def test_rows_of_purged_visitors_go_too() -> None:
    log = log_of(
        {"position_ms": 1_000, "time_s": 1.0, "visitor_id": "v1"},
        {"position_ms": 5_000, "time_s": 1.0, "visitor_id": "v1"},
        {"position_ms": 5_000, "time_s": 5.0, "visitor_id": "v1"},
        {"position_ms": 1_000, "time_s": 1.0, "user_id": "v1"},
    )
    kept = without_purged(log, {"v:v1": 2_000.0})
    assert kept["time_s"].to_list() == [5.0, 1.0]
    assert kept["user_id"].to_list() == ["", "v1"]
