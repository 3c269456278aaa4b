"""Plain files: what becomes an event and when, what is held out, and that every broken line is counted."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from towers.ingest.plain import ASKED_AT_S, PlainFiles, ingest_plain, split_plain
from towers.schema import ConfigError, Dataset, IngestError, load_dataset
from towers.schema.plain import PlainSection, Protocol

SETTINGS = PlainSection()
DAY_S = 86_400


def written(directory: Path, name: str, *lines: str) -> Path:
    path = directory / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def loaded(files: PlainFiles, directory: Path, settings: PlainSection = SETTINGS) -> Dataset:
    return load_dataset(
        ingest_plain(files, split_plain(files, settings), settings, "made", directory / "dataset").dataset_dir
    )


def events(dataset: Dataset) -> dict[str, list[tuple[str, float]]]:
    """By user, each event's item and how many days before T0 it was."""
    users, items = dataset.users["user_id"].to_list(), dataset.items["item_id"].to_list()
    found: dict[str, list[tuple[str, float]]] = {user: [] for user in users}
    log = dataset.events
    for user, item, time_s in zip(log.user_row, log.item_row, log.time_s, strict=True):
        found[users[user]].append((items[item], (ASKED_AT_S - int(time_s)) / DAY_S))
    return found


def test_a_sequence_ends_at_its_test_item_and_each_place_is_a_day(tmp_path: Path) -> None:
    lines = written(tmp_path, "log.txt", "ann a b c d", "bob b a c")
    files = PlainFiles(lines, Protocol.LEAVE_LAST_OUT)
    assert events(loaded(files, tmp_path)) == {
        "ann": [("a", 3.0), ("b", 2.0), ("c", 1.0)],
        "bob": [("b", 2.0), ("a", 1.0)],
    }
    assert split_plain(files, SETTINGS).held_out.items == {"ann": ["d"], "bob": ["c"]}


def test_a_user_with_two_items_is_learned_from_and_not_asked(tmp_path: Path) -> None:
    files = PlainFiles(written(tmp_path, "log.txt", "ann a b c", "eve a b"), Protocol.LEAVE_LAST_OUT)
    split = split_plain(files, SETTINGS)
    assert split.held_out.items == {"ann": ["c"]}
    assert split.held_out.left_out == {"user_with_too_few_items": 1}
    assert events(loaded(files, tmp_path))["eve"] == [("a", 3.0), ("b", 2.0)]  # both in train, none for validation


def test_a_repeated_item_is_two_events_of_a_sequence_and_one_of_a_set(tmp_path: Path) -> None:
    lines = written(tmp_path, "log.txt", "ann a b a c")
    sequence = loaded(PlainFiles(lines, Protocol.LEAVE_LAST_OUT), tmp_path)
    assert [item for item, _ in events(sequence)["ann"]] == ["a", "b", "a"]
    test = written(tmp_path, "test.txt", "ann d")
    as_set = loaded(PlainFiles(lines, Protocol.HOLDOUT, test=test), tmp_path)
    assert sorted(item for item, _ in events(as_set)["ann"]) == ["a", "b", "c"]
    assert as_set.meta.quarantine == {"repeated_item": 1}


def test_every_broken_line_is_counted_with_its_reason(tmp_path: Path) -> None:
    lines = written(tmp_path, "log.txt", "ann a b c", "", "bob", "cem a b c d", "ann d e")
    dataset = loaded(PlainFiles(lines, Protocol.LEAVE_LAST_OUT), tmp_path)
    assert dataset.meta.quarantine == {"empty_line": 1, "no_items": 1, "repeated_user": 2}
    counts = dataset.meta.sources["events"]
    assert (counts.input, counts.kept, counts.quarantined, counts.excluded) == (11, 5, 4, 2)
    assert dataset.meta.counts.rows == 5


def test_items_of_the_attributes_alone_are_in_the_catalogue_and_those_without_are_counted(tmp_path: Path) -> None:
    lines = written(tmp_path, "log.txt", "ann a b c")
    attributes = written(tmp_path, "items.json", json.dumps({"a": [7, "x"], "z": [1], "b": [], "q": {"no": "list"}}))
    dataset = loaded(PlainFiles(lines, Protocol.LEAVE_LAST_OUT, attributes), tmp_path)
    assert dict(dataset.items.iter_rows()) == {"a": "7 x", "b": "", "z": "1"}  # c is the test item
    assert dataset.meta.item_attributes.text == ("attributes",)
    assert dataset.meta.imputed == {"items.attributes": 1}
    assert dataset.meta.sources["items"].quarantined_by_rule == {"wrong_type": 1}


def test_rows_do_not_follow_the_ids_whose_order_betrays_the_test_items(tmp_path: Path) -> None:
    lines = written(tmp_path, "log.txt", "ann " + " ".join(map(str, range(100, 201))))
    ids = loaded(PlainFiles(lines, Protocol.LEAVE_LAST_OUT), tmp_path).items["item_id"].to_list()
    assert sorted(ids) == [str(number) for number in range(100, 200)]
    ascents = sum(first < second for first, second in pairwise(ids))
    assert 35 < ascents < 65  # 99 for the ids in order, about 50 by chance


def dataset_bytes(directory: Path) -> str:
    files = sorted((directory / "dataset").iterdir())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def test_another_test_item_changes_no_byte_of_the_dataset(tmp_path: Path) -> None:
    found = []
    for last in ("secret-1", "a"):
        lines = written(tmp_path, "log.txt", f"ann a b {last}", "bob b c a")
        loaded(PlainFiles(lines, Protocol.LEAVE_LAST_OUT), tmp_path)
        found.append(dataset_bytes(tmp_path))
        assert all(b"secret" not in path.read_bytes() for path in (tmp_path / "dataset").iterdir())
    assert found[0] == found[1]


def test_a_test_file_is_nowhere_in_the_dataset(tmp_path: Path) -> None:
    lines = written(tmp_path, "train.txt", "ann a b c d e", "bob b c")
    found = []
    for content in (["ann secret-1 b", "bob secret-2"], ["bob a"], ["ann x", "", "eve y", "ann z", "bob"]):
        test = written(tmp_path, "test.txt", *content)
        loaded(PlainFiles(lines, Protocol.HOLDOUT, test=test), tmp_path)
        found.append(dataset_bytes(tmp_path))
    assert len(set(found)) == 1


def test_broken_lines_of_the_test_file_are_counted_too(tmp_path: Path) -> None:
    lines = written(tmp_path, "train.txt", "ann a b c d e", "bob b c")
    test = written(tmp_path, "test.txt", "ann x x", "", "eve y", "ann z", "bob")
    held_out = split_plain(PlainFiles(lines, Protocol.HOLDOUT, test=test), SETTINGS).held_out
    assert held_out.items == {"ann": ["x"]}
    assert held_out.left_out == {
        "repeated_item": 1,
        "empty_line": 1,
        "repeated_user": 1,
        "no_items": 1,
        "user_without_train": 1,
    }


def test_a_set_is_dealt_into_three_days_by_the_shares(tmp_path: Path) -> None:
    users = [f"u{user}" for user in range(300)]
    lines = written(tmp_path, "train.txt", *(f"{user} " + " ".join(f"i{item}" for item in range(10)) for user in users))
    test = written(tmp_path, "test.txt", "u0 i10")
    settings = PlainSection(ranker_share=0.25, validation_share=0.1)
    files = PlainFiles(lines, Protocol.HOLDOUT, test=test)
    found = events(loaded(files, tmp_path, settings))
    assert found == events(loaded(files, tmp_path, settings))
    assert found != events(loaded(files, tmp_path, settings.model_copy(update={"seed": 18})))
    parts = {1: 0, 2: 0, 3: 0}
    for dealt in found.values():
        assert sorted(item for item, _ in dealt) == [f"i{item}" for item in range(10)]
        moments = [days for _, days in dealt]
        assert len(set(moments)) == 10  # each is learned from those before it
        for days in moments:
            parts[-int(-days // 1)] += 1  # a part lies within the day that begins with it
    assert parts[1] == 300  # a tenth of 10 is 1 of every user
    assert abs(parts[2] - 750) < 60  # 2 or 3 of every user, by chance
    firsts = {dealt[0][0] for dealt in found.values()}
    assert len(firsts) == 10  # the order of the line is not kept


def test_popular_items_are_dealt_into_labels_and_validation_more_often(tmp_path: Path) -> None:
    lines = [
        " ".join([f"u{user}", *(f"p{item}" for item in range(10)), *(f"r{user}-{item}" for item in range(10))])
        for user in range(300)
    ]  # of 20 items 10 have 300 users and 10 have one
    train = written(tmp_path, "train.txt", *lines)
    test = written(tmp_path, "test.txt", "u0 other")
    shares = {}
    for exponent in (0.0, 0.25, 2.0):
        settings = PlainSection(ranker_share=0.2, validation_share=0.2, popularity_exponent=exponent)
        found = events(loaded(PlainFiles(train, Protocol.HOLDOUT, test=test), tmp_path, settings))
        for days in (1, 2):
            dealt = [item for user in found.values() for item, ago in user if days - 1 < ago <= days]
            assert len(dealt) == 300 * 4
            shares[exponent, days] = np.mean([item.startswith("p") for item in dealt])
        assert all(len({ago for _, ago in user}) == 20 for user in found.values())
    for days in (1, 2):
        assert abs(shares[0.0, days] - 0.5) < 0.05
        assert 0.55 < shares[0.25, days] < 0.7
        assert shares[2.0, days] > 0.85


def test_small_sets_keep_a_base(tmp_path: Path) -> None:
    lines = written(tmp_path, "train.txt", *(f"u{user} a" for user in range(20)))
    test = written(tmp_path, "test.txt", "u0 b")
    settings = PlainSection(ranker_share=0.49, validation_share=0.49)
    assert all(
        dealt == [("a", 3.0)]
        for dealt in events(loaded(PlainFiles(lines, Protocol.HOLDOUT, test=test), tmp_path, settings)).values()
    )


def test_wrong_files_are_named(tmp_path: Path) -> None:
    lines = written(tmp_path, "log.txt", "ann a b c")
    with pytest.raises(ConfigError, match="--test FILE belongs to holdout"):
        split_plain(PlainFiles(lines, Protocol.HOLDOUT), SETTINGS)
    with pytest.raises(ConfigError, match="--test FILE belongs to holdout"):
        split_plain(PlainFiles(lines, Protocol.LEAVE_LAST_OUT, test=lines), SETTINGS)
    with pytest.raises(IngestError, match=r"nothing\.txt: there is no such file"):
        split_plain(PlainFiles(tmp_path / "nothing.txt", Protocol.LEAVE_LAST_OUT), SETTINGS)
    with pytest.raises(IngestError, match="no item is left"):
        split_plain(PlainFiles(written(tmp_path, "short.txt", "ann a"), Protocol.LEAVE_LAST_OUT), SETTINGS)
    for name, text in (("list.json", "[1]"), ("broken.json", "{")):
        files = PlainFiles(lines, Protocol.LEAVE_LAST_OUT, written(tmp_path, name, text))
        with pytest.raises(IngestError, match=name):
            loaded(files, tmp_path)
