"""Masks against an evaluation row by row in plain Python, before and after rows change."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.filters import (
    AllOf,
    AnyOf,
    AttributeTable,
    Available,
    Equals,
    Expression,
    In,
    Masks,
    Not,
    Range,
)
from index.filters import masks as module
from index.filters.attributes import UNKNOWN, Value

COLOURS = ["red", "green", "blue"]
PRICES = [0.0, 1.5, 2.0, 19.9, 1e6]
Item = tuple[dict[str, Value], bool]
"""Attributes, and whether it is retrievable."""

colours = st.sampled_from([*COLOURS, "purple", UNKNOWN])
prices = st.sampled_from(PRICES)
bounds = st.one_of(st.none(), prices, st.sampled_from([-math.inf, math.inf, 1e300]))
attributes = st.fixed_dictionaries({}, optional={"colour": st.sampled_from(COLOURS), "price": prices})
items = st.tuples(attributes, st.booleans())
leaves = st.one_of(
    st.builds(Equals, st.just("colour"), colours),
    st.builds(Equals, st.just("price"), prices),
    st.builds(In, st.just("colour"), st.lists(colours, max_size=4).map(tuple)),
    st.builds(In, st.just("price"), st.lists(prices, max_size=3).map(tuple)),
    st.builds(Range, st.just("price"), bounds, bounds),
    st.builds(Available, st.booleans()),
)
expressions: st.SearchStrategy[Expression] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


def holds(expression: Expression, item: Mapping[str, Value], available: bool) -> bool:
    """What the documentation says, of one item."""
    match expression:
        case Equals(name, value):
            return item.get(name, UNKNOWN if name == "colour" else None) == value
        case In(name, values):
            return item.get(name, UNKNOWN if name == "colour" else None) in values
        case Range(name, minimum, maximum):
            number = item.get(name)
            if not isinstance(number, float):
                return False
            return (minimum is None or number >= minimum) and (maximum is None or number <= maximum)
        case AllOf(parts):
            return all(holds(part, item, available) for part in parts)
        case AnyOf(parts):
            return any(holds(part, item, available) for part in parts)
        case Not(part):
            return not holds(part, item, available)
        case Available(value):
            return available == value


def table_of(shop: list[Item], spare_count: int = 0) -> AttributeTable:
    return AttributeTable.of_columns(
        {"colour": [str(item.get("colour", UNKNOWN)) for item, _ in shop]},
        {"price": np.array([item.get("price", np.nan) for item, _ in shop], np.float32)},
        ["title"],
        row_count=len(shop),
        spare_count=spare_count,
    )


def expected(shop: list[Item], expression: Expression) -> list[bool]:
    return [available and holds(expression, item, available) for item, available in shop]


@given(st.lists(items, max_size=12), expressions)
def test_a_mask_is_what_each_row_says(shop: list[Item], expression: Expression) -> None:
    masks = Masks(table_of(shop), np.array([available for _, available in shop], np.bool_))
    mask = masks.of(expression)
    assert mask.allowed.tolist() == expected(shop, expression)
    assert mask.count == sum(expected(shop, expression))


@given(
    st.lists(items, min_size=1, max_size=8),
    st.lists(expressions, min_size=1, max_size=4),
    st.lists(st.lists(st.tuples(st.integers(0, 9), items), min_size=1, max_size=4), max_size=4),
)
def test_masks_follow_rows_that_change(
    shop: list[Item], asked: list[Expression], batches: list[list[tuple[int, Item]]]
) -> None:
    table = table_of(shop, spare_count=2)
    retrievable = np.array([available for _, available in shop] + [False] * 2)
    shop = [*shop, ({}, False), ({}, False)]
    masks = Masks(table, retrievable)
    for expression in asked:
        masks.of(expression)
    for batch in batches:
        for place, (item, available) in batch:
            row = place % len(shop)
            shop[row] = item, available
            table.set(row, item)
            retrievable[row] = available
        masks.changed([place % len(shop) for place, _ in batch])
        for expression in asked:
            mask = masks.of(expression)
            assert mask.allowed.tolist() == expected(shop, expression)
            assert mask.count == sum(expected(shop, expression))
            assert mask.rows is not None
            assert mask.rows.tolist() == np.flatnonzero(mask.allowed).tolist()


def test_a_mask_is_kept_by_what_the_filter_says_and_the_least_lately_used_goes() -> None:
    shop: list[Item] = [({"colour": colour}, True) for colour in COLOURS]
    masks = Masks(table_of(shop), np.ones(3, np.bool_), size_bytes_max=2 * 3)
    red = masks.of(Equals("colour", "red"))
    green = masks.of(Equals("colour", "green"))
    assert masks.of(Equals("colour", "red")) is red
    masks.of(Equals("colour", "blue"))
    assert len(masks) == 2
    assert masks.of(Equals("colour", "red")) is red
    assert masks.of(Equals("colour", "green")) is not green


def test_a_mask_of_many_rows_keeps_no_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_COUNT_MAX", 2)
    masks = Masks(table_of([({}, True)] * 3), np.ones(3, np.bool_))
    assert masks.of(AllOf(())).rows is None
    assert masks.of(AnyOf(())).rows is not None


def test_a_number_is_compared_as_the_catalogue_keeps_it() -> None:
    masks = Masks(table_of([({"price": 19.9}, True), ({"price": 20.0}, True)]), np.ones(2, np.bool_))
    for expression in (Equals("price", 19.9), In("price", (19.9,)), Range("price", 19.9, 19.9)):
        assert masks.of(expression).allowed.tolist() == [True, False]
