from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from index.filters import AttributeKind, AttributesInvalid, AttributeTable
from index.filters.attributes import ATTRIBUTES_FILE, VOCABULARIES_FILE


def small_table(spare_count: int = 0) -> AttributeTable:
    return AttributeTable.of_columns(
        {"colour": ["red", "blå", "red"]},
        {"price": np.array([1.5, 2, 3], np.float32)},
        ["title"],
        row_count=3,
        spare_count=spare_count,
    )


def paths(directory: Path) -> tuple[Path, Path]:
    return directory / ATTRIBUTES_FILE, directory / VOCABULARIES_FILE


def saved(directory: Path, spare_count: int = 0) -> AttributeTable:
    small_table(spare_count).save(*paths(directory))
    return AttributeTable.open(*paths(directory))


def test_a_table_comes_back_from_its_files(tmp_path: Path) -> None:
    table = saved(tmp_path, spare_count=2)
    assert table.row_count == 5
    assert dict(table.kinds) == {
        "colour": AttributeKind.CATEGORICAL,
        "price": AttributeKind.NUMERIC,
        "title": AttributeKind.TEXT,
    }
    red, blue, other = {"colour": "red", "price": 1.5}, {"colour": "blå", "price": 2}, {"colour": "red", "price": 3}
    assert [table.row(row) for row in range(5)] == [red, blue, other, {}, {}]
    assert table.code("colour", "blå") == table.codes("colour")[1]
    assert table.code("colour", "mauve") == -1


def test_what_is_set_is_seen_here_and_nowhere_else(tmp_path: Path) -> None:
    table = saved(tmp_path, spare_count=1)
    before = [path.read_bytes() for path in paths(tmp_path)]
    table.set(3, {"colour": "mauve", "price": 7})  # a value that no item has had
    table.set(0, {"price": 1})
    assert table.row(3) == {"colour": "mauve", "price": 7}
    assert table.row(0) == {"price": 1}
    assert table.version == 2
    assert table.codes("colour")[3] == table.code("colour", "mauve")
    assert [path.read_bytes() for path in paths(tmp_path)] == before
    assert AttributeTable.open(*paths(tmp_path)).row(3) == {}


@pytest.mark.parametrize(
    ("row", "attributes", "message"),
    [
        (3, {}, "row 3 is none of the 3 rows"),
        (-1, {}, "row -1"),
        (0, {"size": "L"}, "'size' is no attribute; known: colour, price, title"),
        (0, {"colour": 3.0}, "'colour' is categorical, 3.0 is not"),
        (0, {"price": "cheap"}, "'price' is numeric, 'cheap' is not"),
        (0, {"price": float("nan")}, "'price' is numeric, nan is not"),
        (0, {"title": 3}, "'title' is text, 3 is not"),
    ],
)
def test_a_row_that_cannot_be_set_so_stays(row: int, attributes: dict[str, str | float], message: str) -> None:
    table = small_table()
    with pytest.raises(AttributesInvalid, match=message):
        table.set(row, {"colour": "blå", **attributes})
    assert table.row(0) == {"colour": "red", "price": 1.5}
    assert table.version == 0


def test_a_table_without_attributes_has_rows_all_the_same(tmp_path: Path) -> None:
    AttributeTable.of_columns({}, {}, row_count=4).save(*paths(tmp_path))
    table = AttributeTable.open(*paths(tmp_path))
    assert (table.row_count, dict(table.kinds)) == (4, {})


def test_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    small_table().save(*paths(tmp_path))
    columns, vocabularies = paths(tmp_path)
    good = json.loads(vocabularies.read_text())
    for wrong in (
        {**good, "row_count": 4},
        {**good, "categorical": {"colour": ["red"]}},
        {**good, "categorical": {"shade": ["red"]}},
        {**good, "numeric": ["colour"], "categorical": {}},
        {"numeric": []},
        [],
    ):
        vocabularies.write_text(json.dumps(wrong))
        with pytest.raises(AttributesInvalid, match=r"attributes\.(json|safetensors)"):
            AttributeTable.open(columns, vocabularies)
    vocabularies.write_text(json.dumps(good))
    price = np.zeros(2, np.float32)
    save_file({"colour": np.zeros(3, np.int32), "price": price}, columns)
    with pytest.raises(AttributesInvalid, match="different lengths"):
        AttributeTable.open(columns, vocabularies)
    columns.write_bytes(b"not a tensor")
    with pytest.raises(AttributesInvalid, match="header"):
        AttributeTable.open(columns, vocabularies)
