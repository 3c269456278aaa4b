from __future__ import annotations

import pytest

from index.filters import (
    AllOf,
    AnyOf,
    AttributeKind,
    Available,
    Equals,
    Expression,
    FilterInvalid,
    FilterLimits,
    In,
    Not,
    Range,
    check,
)
from index.filters.expressions import problems

KINDS = {"colour": AttributeKind.CATEGORICAL, "price": AttributeKind.NUMERIC, "title": AttributeKind.TEXT}
RED = Equals("colour", "red")


@pytest.mark.parametrize(
    "expression",
    [
        RED,
        Equals("colour", "of no item"),
        Equals("price", 3),
        In("colour", ()),
        In("price", (1.0, 2.0)),
        Range("price", 1),
        Range("price", None, 1),
        Range("price", 1, 1),
        AllOf(()),
        AnyOf(()),
        Not(AllOf((RED, Available(), AnyOf((RED,))))),
    ],
)
def test_what_can_be_asked_passes(expression: Expression) -> None:
    check(expression, KINDS)


@pytest.mark.parametrize(
    ("expression", "path", "message"),
    [
        (Equals("size", "L"), "equals.attribute", "'size' is no attribute .* known: colour .categorical., price .num"),
        (In("size", ("L",)), "is_in.attribute", "'size'"),
        (Range("size", 1), "range.attribute", "'size'"),
        (Equals("title", "x"), "equals.attribute", "free text"),
        (Equals("price", "cheap"), "equals.value", "'cheap' is a text; 'price' is numeric"),
        (Equals("colour", 3), "equals.value", "3 is a number; 'colour' is categorical"),
        (Equals("price", float("nan")), "equals.value", "NaN"),
        (In("price", (1, "cheap")), r"is_in.values[1]", "'cheap'"),
        (Range("colour", 1), "range.attribute", "needs numbers"),
        (Range("price"), "range", "neither"),
        (Range("price", 2, 1), "range", "the minimum 2 is above the maximum 1"),
        (Range("price", float("nan")), "range.minimum", "NaN"),
        (Not(Equals("x", "y")), "negation.filter.equals.attribute", "'x'"),
        (AllOf((RED, Equals("x", "y"))), "all.filters[1].equals.attribute", "'x'"),
        (AnyOf((Not(AllOf((Range("price"),))),)), "any.filters[0].negation.filter.all.filters[0].range", "neither"),
    ],
)
def test_what_cannot_be_asked_is_named(expression: Expression, path: str, message: str) -> None:
    with pytest.raises(FilterInvalid, match=message) as refused:
        check(expression, KINDS)
    assert refused.value.problem.path == path
    assert [problem.path for problem in problems(expression, KINDS)] == [path]


def test_sizes_are_limited() -> None:
    limits = FilterLimits(depth_max=2, conditions_max=4, values_max=2)
    check(AllOf((RED, RED, RED)), KINDS, limits)
    for expression, message in [
        (Not(Not(RED)), "deeper than 2 levels"),
        (AllOf((RED,) * 4), "more than 4 conditions"),
        (In("colour", ("a", "b", "c")), "has 3 entries; at most 2"),
    ]:
        with pytest.raises(FilterInvalid, match=message):
            check(expression, KINDS, limits)


def test_everything_wrong_is_told_at_once() -> None:
    wrong = AllOf((Equals("x", "y"), Range("price", 2, 1), RED, Equals("colour", 1)))
    paths = [problem.path for problem in problems(wrong, KINDS)]
    assert paths == ["all.filters[0].equals.attribute", "all.filters[1].range", "all.filters[3].equals.value"]


def test_expressions_are_the_same_when_they_say_the_same() -> None:
    assert len({AllOf((RED, Not(RED))), AllOf((Equals("colour", "red"), Not(RED)))}) == 1
    assert AllOf((RED,)) != AnyOf((RED,))
    assert Equals("price", 1) != Range("price", 1)
