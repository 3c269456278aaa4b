"""What a filter says, as frozen values that compare and hash by what they say, and the checks that all of them pass.

Paths in problems are those of the wire's Filter message: `all.filters[1].equals.attribute`.

Errors:
    ValueError
    └── FilterInvalid   the filter cannot be asked of these items; names the field, its value and what would be right
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from index.filters.kinds import AttributeKind, Value

_SHOWN_CHARACTERS_MAX = 40
_NAMES_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Equals:
    """The attribute has this value; one that no item has matches nothing."""

    attribute: str
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """The attribute has one of these values."""

    attribute: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The number lies within the bounds, both inclusive; an item without the number is never within."""

    attribute: str
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one holds; of none: always."""

    filters: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one holds; of none: never."""

    filters: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    filter: Expression


@dataclass(frozen=True, slots=True)
class Available:
    """Whether the item may be recommended now. Items that may not never appear, whatever a filter says."""

    value: bool = True


Expression = Equals | In | Range | AllOf | AnyOf | Not | Available


class Problem(NamedTuple):
    """One field that is wrong: its path in the filter and why."""

    path: str
    description: str


class FilterInvalid(ValueError):
    """A filter that cannot be asked of these items."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.path}: {problem.description}" if problem.path else problem.description)


@dataclass(frozen=True, slots=True)
class FilterLimits:
    """How large a filter may be."""

    depth_max: int = 8
    conditions_max: int = 64
    values_max: int = 1_000


DEFAULT_LIMITS = FilterLimits()


def check(expression: Expression, kinds: Mapping[str, AttributeKind], limits: FilterLimits = DEFAULT_LIMITS) -> None:
    """Raises FilterInvalid for the first problem."""
    for problem in problems(expression, kinds, limits):
        raise FilterInvalid(problem)


def problems(
    expression: Expression, kinds: Mapping[str, AttributeKind], limits: FilterLimits = DEFAULT_LIMITS
) -> Iterator[Problem]:
    """Everything that is wrong with a filter of these attributes, as far as it is not too large to be looked into."""
    counted = [0]
    yield from _problems(expression, "", 1, kinds, limits, counted)
    if counted[0] > limits.conditions_max:
        yield Problem("", f"has more than {limits.conditions_max} conditions")


def _problems(
    expression: Expression,
    prefix: str,
    depth: int,
    kinds: Mapping[str, AttributeKind],
    limits: FilterLimits,
    counted: list[int],
) -> Iterator[Problem]:
    counted[0] += 1
    if counted[0] > limits.conditions_max:
        return
    if depth > limits.depth_max:
        yield Problem(prefix.rstrip("."), f"lies deeper than {limits.depth_max} levels")
        return
    if isinstance(expression, AllOf | AnyOf):
        name = "all" if isinstance(expression, AllOf) else "any"
        for position, one in enumerate(expression.filters):
            yield from _problems(one, f"{prefix}{name}.filters[{position}].", depth + 1, kinds, limits, counted)
    elif isinstance(expression, Not):
        yield from _problems(expression.filter, prefix + "negation.filter.", depth + 1, kinds, limits, counted)
    elif isinstance(expression, Equals):
        kind = kinds.get(expression.attribute)
        yield from _attribute_problems(expression.attribute, kind, prefix + "equals.attribute", kinds)
        yield from _value_problems(expression.value, expression.attribute, kind, prefix + "equals.value")
    elif isinstance(expression, In):
        kind, path = kinds.get(expression.attribute), prefix + "is_in.values"
        yield from _attribute_problems(expression.attribute, kind, prefix + "is_in.attribute", kinds)
        if len(expression.values) > limits.values_max:
            yield Problem(path, f"has {len(expression.values)} entries; at most {limits.values_max} are allowed")
            return
        for position, value in enumerate(expression.values):
            yield from _value_problems(value, expression.attribute, kind, f"{path}[{position}]")
    elif isinstance(expression, Range):
        yield from _range_problems(expression, prefix + "range", kinds)


def _attribute_problems(
    name: str, kind: AttributeKind | None, path: str, kinds: Mapping[str, AttributeKind]
) -> Iterator[Problem]:
    if kind is None:
        known = sorted(other for other in kinds if kinds[other] is not AttributeKind.TEXT)
        more = f" and {len(known) - _NAMES_SHOWN_MAX} more" if len(known) > _NAMES_SHOWN_MAX else ""
        listed = ", ".join(f"{other} ({kinds[other]})" for other in known[:_NAMES_SHOWN_MAX])
        yield Problem(path, f"{_shown(name)} is no attribute of these items; known: {listed or 'none'}{more}")
    elif kind is AttributeKind.TEXT:
        yield Problem(path, f"{_shown(name)} is free text, which no filter can ask for; make it categorical")


def _value_problems(value: Value, name: str, kind: AttributeKind | None, path: str) -> Iterator[Problem]:
    if kind is AttributeKind.NUMERIC and isinstance(value, str):
        yield Problem(path, f"{_shown(value)} is a text; {_shown(name)} is numeric")
    elif kind is AttributeKind.CATEGORICAL and not isinstance(value, str):
        yield Problem(path, f"{value:g} is a number; {_shown(name)} is categorical, its values are texts")
    elif not isinstance(value, str) and math.isnan(value):
        yield Problem(path, "is no number (NaN), which nothing equals")


def _range_problems(expression: Range, path: str, kinds: Mapping[str, AttributeKind]) -> Iterator[Problem]:
    kind = kinds.get(expression.attribute)
    yield from _attribute_problems(expression.attribute, kind, path + ".attribute", kinds)
    if kind is AttributeKind.CATEGORICAL:
        yield Problem(path + ".attribute", f"{_shown(expression.attribute)} is categorical; a range needs numbers")
    minimum, maximum = expression.minimum, expression.maximum
    bounds = {"minimum": minimum, "maximum": maximum}
    for bound, value in bounds.items():
        if value is not None and math.isnan(value):
            yield Problem(f"{path}.{bound}", "is no number (NaN)")
    if minimum is None and maximum is None:
        yield Problem(path, "has neither a minimum nor a maximum; set at least one")
    elif minimum is not None and maximum is not None and minimum > maximum:
        yield Problem(path, f"is empty: the minimum {minimum:g} is above the maximum {maximum:g}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "…")
