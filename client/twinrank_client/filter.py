"""Which items an answer may hold: conditions on attributes, joined with `&`, `|` and `~`.

    Equals("department", "DAIRY") & ~IsIn("brand", ["Private", "National"]) | Range("price", maximum=5)

Text asks about categorical attributes, numbers about numeric ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Value = str | int | float


class Filter:
    """A condition on an item: one of the classes below."""

    __slots__ = ()

    def __and__(self, other: Filter) -> AllOf:
        """Both hold."""
        return AllOf((*_of(AllOf, self), *_of(AllOf, _filter(other))))

    def __or__(self, other: Filter) -> AnyOf:
        """One of both holds, or both."""
        return AnyOf((*_of(AnyOf, self), *_of(AnyOf, _filter(other))))

    def __invert__(self) -> Filter:
        """It does not hold."""
        return self.filter if isinstance(self, Not) else Not(self)


@dataclass(frozen=True, slots=True)
class Equals(Filter):
    """The attribute has this value; one that no item has matches nothing."""

    attribute: str
    value: Value

    def __post_init__(self) -> None:
        _check_value(self.attribute, self.value)


@dataclass(frozen=True, slots=True)
class IsIn(Filter):
    """The attribute has one of these values."""

    attribute: str
    values: Sequence[Value]

    def __post_init__(self) -> None:
        if isinstance(self.values, str):
            raise TypeError(f"values must be a sequence of values, not one string: {self.values!r}")
        object.__setattr__(self, "values", tuple(self.values))
        for value in self.values:
            _check_value(self.attribute, value)


@dataclass(frozen=True, slots=True)
class Range(Filter):
    """A numeric attribute lies within bounds, both inclusive; at least one is given."""

    attribute: str
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.minimum is None and self.maximum is None:
            raise ValueError(f"a range of {self.attribute!r} needs a minimum, a maximum or both")


@dataclass(frozen=True, slots=True)
class AllOf(Filter):
    """Every one holds; without any it holds always."""

    filters: Iterable[Filter]

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple(map(_filter, self.filters)))


@dataclass(frozen=True, slots=True)
class AnyOf(Filter):
    """At least one holds; without any it holds never."""

    filters: Iterable[Filter]

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple(map(_filter, self.filters)))


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """It does not hold."""

    filter: Filter

    def __post_init__(self) -> None:
        _filter(self.filter)


@dataclass(frozen=True, slots=True)
class Available(Filter):
    """The item is in stock. Items out of stock never appear, so alone it narrows nothing."""

    available: bool = True


def _of(kind: type[AllOf] | type[AnyOf], condition: Filter) -> tuple[Filter, ...]:
    """A chain of one operator is one flat filter."""
    return tuple(condition.filters) if isinstance(condition, kind) else (condition,)


def _filter(value: Filter) -> Filter:
    if not isinstance(value, Filter):
        raise TypeError(f"a filter must be one of Equals, IsIn, Range, AllOf, AnyOf, Not, Available; not {value!r}")
    return value


def _check_value(attribute: str, value: Value) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"a value of {attribute!r} must be a str or a number, not {type(value).__name__}: {value!r}")
