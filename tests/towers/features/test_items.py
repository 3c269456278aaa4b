from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from towers.features.items import ItemEncoder

CATALOGUE = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "kind": ["tea", "tea", "cup"],
        "price": pl.Series([2.0, 4.0, 9.0], dtype=pl.Float32),
        "title": ["Green tea", "Black tea", "Cup"],
    }
)


@pytest.fixture
def encoder() -> ItemEncoder:
    return ItemEncoder.fit(CATALOGUE, ["a", "c"], ["kind"], ["price"], ["title"])


def test_items_become_codes_and_standardised_numbers(encoder: ItemEncoder) -> None:
    arrays = encoder.encode(CATALOGUE)
    assert arrays.id_code.tolist() == [1, 0, 2]  # b is too rare for an embedding of its own
    assert arrays.attribute_code.tolist() == [[2], [2], [1]]
    mean, deviation = 5.0, np.sqrt(26 / 3)
    assert arrays.number[:, 0].tolist() == pytest.approx([(price - mean) / deviation for price in (2, 4, 9)], rel=1e-6)
    assert arrays.word[0, 1] == arrays.word[1, 1]  # both are tea
    assert len(arrays) == 3


def test_a_newer_catalogue_is_read_with_the_scales_of_training(encoder: ItemEncoder) -> None:
    newer = pl.DataFrame(
        {
            "item_id": ["new", "c"],
            "kind": ["spoon", "cup"],
            "price": pl.Series([1e6, 9.0], dtype=pl.Float32),
            "title": ["", "Cup"],
        }
    )
    arrays = encoder.encode(newer)
    assert arrays.id_code.tolist() == [0, 2]
    assert arrays.attribute_code.tolist() == [[0], [1]]
    assert arrays.number[0, 0] == 5  # clipped
    assert arrays.number[1, 0] == encoder.encode(CATALOGUE).number[2, 0]
    assert not arrays.word[0].any()


def test_items_without_attributes_are_their_ids() -> None:
    arrays = ItemEncoder.fit(CATALOGUE, ["a"], [], [], []).encode(CATALOGUE)
    assert (arrays.attribute_code.shape, arrays.number.shape, arrays.word.shape) == ((3, 0), (3, 0), (3, 0))


def test_a_constant_number_is_zero_and_not_infinite() -> None:
    same = CATALOGUE.with_columns(pl.lit(3.0, pl.Float32).alias("price"))
    assert ItemEncoder.fit(same, [], [], ["price"], []).encode(same).number.tolist() == [[0], [0], [0]]


def test_taken_rows_keep_every_column(encoder: ItemEncoder) -> None:
    arrays = encoder.encode(CATALOGUE)
    taken = arrays.take(np.array([2, 0]))
    assert taken.id_code.tolist() == [2, 1]
    assert taken.word.tolist() == arrays.word[[2, 0]].tolist()
