"""The archive holds every event of the log once, whatever was interrupted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.towers.updating.logs import log_of
from towers.updating.archive import FILES_MAX, ArchiveInvalid, EventArchive


def event(position_ms: int, user_id: str = "u01") -> dict[str, object]:
    return {"position_ms": position_ms, "time_s": position_ms / 1000, "user_id": user_id, "item_id": "tents-1"}


def test_an_archive_that_is_not_there_has_read_nothing(tmp_path: Path) -> None:
    archive = EventArchive(tmp_path / "updates")
    assert archive.until_ms == 0
    assert archive.read().height == 0


def test_what_is_appended_is_read_in_order_by_the_next_process(tmp_path: Path) -> None:
    first, second = log_of(event(10), event(15)), log_of(event(25))
    EventArchive(tmp_path).append(first, 0, 20)
    EventArchive(tmp_path).append(second, 20, 30)
    assert EventArchive(tmp_path).until_ms == 30
    assert_frame_equal(EventArchive(tmp_path).read(), pl.concat([first, second]))


@pytest.mark.parametrize(("after_ms", "until_ms"), [(19, 30), (21, 30), (20, 20)])
def test_events_that_do_not_follow_are_refused(tmp_path: Path, after_ms: int, until_ms: int) -> None:
    archive = EventArchive(tmp_path)
    archive.append(log_of(event(10)), 0, 20)
    with pytest.raises(ArchiveInvalid, match="do not follow"):
        archive.append(log_of(event(25)), after_ms, until_ms)
    assert archive.until_ms == 20


def test_a_file_that_a_crash_left_unfinished_is_not_read_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".tmp-0123").write_bytes(b"PAR1 and no more")
    archive = EventArchive(tmp_path)
    archive.append(log_of(event(10)), 0, 20)
    assert archive.read().height == 1
    assert [path.name for path in tmp_path.iterdir()] == ["events-0-20.parquet"]


def test_files_that_a_merged_one_covers_are_not_read_twice(tmp_path: Path) -> None:
    archive = EventArchive(tmp_path)
    archive.append(log_of(event(10)), 0, 20)
    archive.append(log_of(event(25)), 20, 30)
    covered = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    archive.rewrite(archive.read())
    for name, data in covered.items():  # as if it had crashed before they were deleted
        (tmp_path / name).write_bytes(data)
    assert archive.read()["position_ms"].to_list() == [10, 25]
    assert [path.name for path in tmp_path.iterdir()] == ["events-0-30.parquet"]


def test_many_small_files_become_one(tmp_path: Path) -> None:
    archive = EventArchive(tmp_path)
    for place in range(FILES_MAX + 1):
        archive.append(log_of(event(place * 10 + 5)), place * 10, place * 10 + 10)
    assert len(list(tmp_path.iterdir())) == 1
    assert archive.read().height == FILES_MAX + 1


def test_a_gap_and_a_damaged_file_are_said(tmp_path: Path) -> None:
    archive = EventArchive(tmp_path)
    archive.append(log_of(event(10)), 0, 20)
    archive.append(log_of(event(25)), 20, 30)
    archive.append(log_of(event(35)), 30, 40)
    (tmp_path / "events-20-30.parquet").unlink()
    with pytest.raises(ArchiveInvalid, match="does not begin where"):
        archive.read()
    (tmp_path / "events-20-30.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ArchiveInvalid, match="cannot be read"):
        archive.read()
